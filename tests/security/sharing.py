"""One session for many programs: the judge proves after each that the session is sound, and the next goes on in it."""

from __future__ import annotations

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


class Shared:
    """A session that is opened anew after a program that may have harmed it.

    A program that is not held after others have run is run again in a session of its own, so that the
    report is about that program. Only a breach counts as it is, whoever came before.
    """

    def __init__(self, open_session: Callable[[], Session], assign: Callable[[Session], None]):
        """Opens nothing yet. `assign` sets the variables that programs find, before each of them."""
        self._open = open_session
        self._assign = assign
        self._session: Session | None = None
        self._before: list[str] = []

    def judge(self, program: Program, around: Surroundings) -> Report:
        """Runs a program in the shared session, and where that proves nothing, by itself."""
        before = tuple(self._before)
        report = self._judge(program, around)
        if report.verdict == "held" and (program.destroys or not report.losses):
            return report
        self.close()
        if not before:
            return report
        after = f"after {len(before)} others, the last of them {', '.join(before[-3:])}"
        if report.verdict == "breach":
            return Report("breach", (*report.reasons, after), report.losses)
        alone = self._judge(program, around)
        if alone.verdict == "held":
            return alone
        self.close()
        return Report(alone.verdict, (*alone.reasons, f"{after}: {report}"), alone.losses)

    def close(self) -> None:
        """Gives the session up."""
        if self._session is not None:
            self._session.close()
        self._session = None
        self._before.clear()

    def _judge(self, program: Program, around: Surroundings) -> Report:
        if self._session is None:
            self._session = self._open()
        else:
            self._session.run_cell(_CLEAR)
        session = self._session
        try:
            self._assign(session)
            report = judge(program, Ours(session), around)
        except BaseException:
            self.close()
            raise
        self._before.append(program.name)
        if program.destroys or program.wrecks or session.restarts:
            self.close()
        return report
