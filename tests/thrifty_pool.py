"""A pool for tests: it starts nothing ahead, and lends a session again.

To start a session takes 0.7 s of processor time, and most tests less than a tenth of that for themselves.
What a run leaves in a namespace is deleted before the next one begins, which is enough between tests and
nothing that would hold against a hostile cell: no pool of ours takes sessions back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from typing import Any

from sandbox_runtime import (
    Completed,
    Limits,
    Pool,
    SandboxError,
    Session,
    Submitted,
    open_session,
)
from sandbox_runtime.helpers import Loan, ready_packages

# A session's replay log grows with every cell.
MOST_LOANS = 50

# The timeout for a loan to end: its borrower may be a thread that never does.
LOAN_SECONDS = 60.0


_FORGET = """\
for _name in set(globals()) - {names!r} - {{"_name"}}:
    del globals()[_name]
globals().pop("_name", None)
"""


@dataclasses.dataclass
class _Kept:
    """A session between two loans."""

    session: Session
    names: set[str]
    loans: int = 0


class ThriftyPool(Pool):
    """A pool that keeps nothing warm, and lends sessions again that have the usual limits and no packages."""

    def __init__(self, *, keeps: int = 3, **options: Any) -> None:
        """Makes an empty pool.

        Args:
            keeps: Sessions that it keeps to lend them again; with 0 each one is new.
            options: See `Pool`.
        """
        super().__init__(**options)
        self._keeps = keeps
        self._idle: list[_Kept] = []
        self._lent = 0
        self._given_back = threading.Condition()  # guards both

    def lend(
        self,
        tools: Any = None,
        outputs: Any = None,
        *,
        types: Any = (),
        loop: Any = None,
        limits: Limits | None = None,
        packages: Any = None,
    ) -> Session:
        """Returns a session with an empty namespace: a used one if possible, else a new one."""
        limits = limits or self.limits
        packages = self.packages if packages is None else ready_packages(packages)
        types = list(types)
        if not self._keeps or packages is not None or not _is_usual(limits):
            return open_session(limits, tools, outputs, packages, types=types, loop=loop)
        kept = self._taken(limits) or _opened(limits)
        kept.loans += 1
        with contextlib.ExitStack() as stack:
            stack.callback(kept.session.close)
            kept.session.register(tools or {}, outputs, types=types, loop=loop)
            stack.pop_all()
        with self._given_back:
            self._lent += 1
        return Loan(kept.session, functools.partial(self.take_back, kept))

    def _taken(self, limits: Limits) -> _Kept | None:
        with self._given_back:
            for kept in reversed(self._idle):
                if kept.session.limits == limits:
                    self._idle.remove(kept)
                    return kept
        return None

    def take_back(self, kept: _Kept) -> None:
        """Keeps the session for another loan, or closes it if there is a reason."""
        again = _cleaned(kept)
        if not again:
            kept.session.close()
        with self._given_back:
            self._idle += [kept] if again else []
            surplus = self._idle.pop(0) if len(self._idle) > self._keeps else None
            self._lent -= 1
            self._given_back.notify_all()
        if surplus is not None:
            surplus.session.close()

    def close(self) -> None:
        """Closes the kept sessions, after returns by cancelled runs are complete."""
        super().close()
        with self._given_back:
            self._given_back.wait_for(lambda: self._lent == 0, LOAN_SECONDS)
            kept, self._idle = self._idle, []
        for one in kept:
            one.session.close()


def _is_usual(limits: Limits) -> bool:
    """True if the limits that differ from the defaults do not affect the state of a process."""
    usual = Limits()
    same = {"output_chars": usual.output_chars, "call_seconds": usual.call_seconds}
    return dataclasses.replace(limits, **same) == usual


def _opened(limits: Limits) -> _Kept:
    session = open_session(limits, outputs={"names": "list"})
    answer = session.run_cell("SUBMIT(list(globals()))")
    assert isinstance(answer, Submitted)
    return _Kept(session, set(answer.outputs["names"]))


def _cleaned(kept: _Kept) -> bool:
    """Empties the namespace; returns False if the session cannot be used again."""
    session = kept.session
    if kept.loans >= MOST_LOANS or session.restarts or session.closed or not session.alive:
        return False
    try:
        session.register({}, None, types=())
        return isinstance(session.run_cell(_FORGET.format(names=kept.names)), Completed)
    except SandboxError:  # a cell of the borrower is still running
        return False
