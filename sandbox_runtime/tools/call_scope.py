"""Cancellation of the work that a host function does for a cell.

A function keeps running after its cell has ended, because a thread cannot be killed. It can check for
cancellation before it starts expensive work.
"""

from __future__ import annotations

from contextvars import ContextVar


class Call:
    """A cancellable call of a cell. It is over when it is ended, or when its parent call is over."""

    def __init__(self, part_of: Call | None = None, *, blocks: bool = False) -> None:
        self._part_of = part_of
        self._ended = False
        self.blocks = blocks
        """True if the cell waits for this call alone, and goes on when it has ended."""

    @property
    def over(self) -> bool:
        """True if nothing waits for its result any more."""
        return self._ended or (self._part_of is not None and self._part_of.over)

    def end(self) -> None:
        """Ends the call. Thread-safe."""
        self._ended = True

    def check(self) -> None:
        """Raises `InterruptedError` if it is over."""
        if self.over:
            raise InterruptedError("the call was abandoned: its cell has ended or was interrupted")

    def current(self) -> _Block:
        """Makes it the current call within a `with` block."""
        return _Block(self)


class _Block:
    """Faster than a generator with `contextlib`: every tool call has one."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = _current.set(self._call)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


_current: ContextVar[Call | None] = ContextVar("sandbox_call", default=None)


calling_line: ContextVar[int] = ContextVar("sandbox_line", default=0)
"""The line of the cell that the current call comes from, as the sandbox says; 0 if it is not known."""


def call_line() -> int:
    """Returns the line of the running cell that the current call comes from, also in its threads; 0 if it is not known."""
    return calling_line.get()


def blocks_its_cell() -> bool:
    """Returns whether the cell waits for the current call alone: it is neither awaited nor part of a batch."""
    call = _current.get()
    return call is not None and call.blocks


def current_call() -> Call | None:
    """Returns the current call, also in threads with a copy of its context."""
    return _current.get()


def check_call() -> None:
    """Raises `InterruptedError` if the current call is over."""
    call = _current.get()
    if call is not None:
        call.check()
