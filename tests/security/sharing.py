"""One session for many programs: the judge checks after each that the session is sound, and the next runs in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from sandbox_runtime import Session

from .judge import Report, judge
from .ours import Ours
from .program import Program
from .surroundings import Surroundings

# Deletes what programs have bound, whatever builtins they have hidden.
_CLEAR = (
    "(lambda b, names: [names.pop(name) for name in b.list(names) if name[:2] != '__'] and None)"
    "(__import__('builtins'), __import__('builtins').globals())"
)


@dataclasses.dataclass
class _Lane:
    """A session, and the names of the programs that have run in it."""

    session: Session
    held: list[str] = dataclasses.field(default_factory=list)


class Shared:
    """Sessions that are reopened after a program that may have damaged them.

    Programs that may destroy their interpreter have a session apart, so that the others keep theirs. A
    program that is not held after others have run is run again in a session of its own, so that the report
    is about that program, and not about what others have changed in the interpreter. Only what reached the
    host counts as it is, whoever came before.
    """

    def __init__(self, open_session: Callable[[], Session], assign: Callable[[Session], None]):
        """Opens nothing yet. `assign` sets the programs' variables before each of them."""
        self._open = open_session
        self._assign = assign
        self._lanes: dict[bool, _Lane] = {}

    def judge(
        self, program: Program, around: Surroundings, subject: Callable[[Session], Ours] = Ours
    ) -> Report:
        """Runs a program in a shared session, and again in a separate one if the verdict is inconclusive."""
        destroys = program.destroys or program.wrecks
        before = tuple(self._lanes[destroys].held) if destroys in self._lanes else ()
        report = self._judge(destroys, program, around, subject)
        if (report.verdict == "held" and (destroys or not report.losses)) or not before:
            return report
        after = f"after {len(before)} others, the last of them {', '.join(before[-3:])}"
        if report.reached_host:
            return dataclasses.replace(report, reasons=(*report.reasons, after))
        alone = self._judge(destroys, program, around, subject)
        if alone.verdict == "held":
            return alone
        return dataclasses.replace(alone, reasons=(*alone.reasons, f"{after}: {report}"))

    def close(self) -> None:
        """Closes the sessions."""
        for lane in self._lanes.values():
            lane.session.close()
        self._lanes.clear()

    def _judge(
        self,
        destroys: bool,
        program: Program,
        around: Surroundings,
        subject: Callable[[Session], Ours],
    ) -> Report:
        lane = self._lanes.pop(destroys, None)
        if lane is None:
            lane = _Lane(self._open())
        else:
            lane.session.run_cell(_CLEAR)
        session, sound = lane.session, False
        try:
            self._assign(session)
            report = judge(program, subject(session), around)
            sound = report.verdict == "held" and not program.wrecks and not session.restarts
        finally:
            if not sound:
                session.close()
        if sound:
            lane.held.append(program.name)
            self._lanes[destroys] = lane
        return report
