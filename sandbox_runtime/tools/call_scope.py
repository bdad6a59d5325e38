"""Whether somebody still waits for the work that a host function does for a cell.

A function runs on when its cell is over: nobody can stop a thread. But it can ask, before it begins
something that costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar


class Call:
    """Work for a cell. It is over when somebody ends it, or what it is part of."""

    def __init__(self, part_of: Call | None = None) -> None:
        self._part_of = part_of
        self._ended = False

    @property
    def over(self) -> bool:
        """True once nobody waits for it any more."""
        return self._ended or (self._part_of is not None and self._part_of.over)

    def end(self) -> None:
        """Nobody waits for it from now on. From any thread."""
        self._ended = True

    def check(self) -> None:
        """Raises `InterruptedError` once it is over."""
        if self.over:
            raise InterruptedError("the call was given up: its cell has ended or was interrupted")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Makes it the call that the code of the block works for."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Call | None] = ContextVar("sandbox_call", default=None)


def current_call() -> Call | None:
    """The call that this code works for, also in threads that have a copy of its context."""
    return _current.get()


def check_call() -> None:
    """Raises `InterruptedError` if this code works for a call that is over; begin nothing then."""
    call = _current.get()
    if call is not None:
        call.check()
