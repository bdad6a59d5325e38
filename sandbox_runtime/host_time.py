"""The host's processor time that the calls of one cell take: read, convert and search what the cell asks for.

A clock runs in each thread that works for a cell. It stops while the thread runs the program's own functions, whose
time is theirs. Processor time is that of one thread, so a clock is started and stopped in the same thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# A clock that is running is read this often at most: reading it is a system call.
READ_SECONDS = 0.02


class HostTime:
    """The processor time that one cell has taken from the host, in all threads. Thread-safe."""

    def __init__(self, most: float) -> None:
        """Starts at 0 of `most` seconds."""
        self.most = most
        self._spent = 0.0
        self._lock = threading.Lock()  # guards `_spent`

    @property
    def left(self) -> float:
        """The seconds that are left, without those of running clocks since they were last read; at least 0."""
        return max(0.0, self.most - self._spent)

    def add(self, seconds: float) -> None:
        """Adds processor time of the cell that no clock has seen."""
        with self._lock:
            self._spent += seconds

    def counting(self) -> AbstractContextManager[object]:
        """Counts the time of this thread within a `with` block. The clock of an outer cell stops meanwhile."""
        return _Clock(self, runs=True)

    def check(self) -> None:
        """Raises `TimeoutError` if the cell has taken all of its time."""
        clock = _clocks.current
        if clock is not None and clock.host_time is self:
            clock.read()
        if self._spent >= self.most:
            raise TimeoutError(
                f"the calls of this cell have taken all of the host's processor time that they may: {self.most:g} s "
                "(Limits.host_seconds). The next cell has as much again. Search or pass less in one cell"
            )


def counted() -> AbstractContextManager[object]:
    """Counts the time of this thread within a `with` block, inside of one that is not counted. Nothing without a cell."""
    return _clock(runs=True)


def uncounted() -> AbstractContextManager[object]:
    """Does not count the time of this thread within a `with` block: it is that of the program's own function."""
    return _clock(runs=False)


def counted_for_cell(work: Callable[P, T]) -> Callable[P, T]:
    """Returns the work, whose time counts for the cell that this thread works for, in whatever thread it runs.

    It raises `TimeoutError` if the cell has taken all of its time. Without a cell it is the work itself.
    """
    clock = _clocks.current
    if clock is None:
        return work
    host_time = clock.host_time

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with host_time.counting():
            host_time.check()
            return work(*args, **kwargs)

    return run


def host_seconds_left() -> float:
    """Returns the seconds that the cell has left that this thread works for; infinity without a cell."""
    clock = _clocks.current
    if clock is None:
        return math.inf
    clock.read(at_once=True)
    return clock.host_time.left


def add_host_seconds(seconds: float) -> None:
    """Adds processor time that another process has taken for this thread's cell."""
    clock = _clocks.current
    if clock is not None:
        clock.host_time.add(seconds)


class _Clock:
    """The time of one thread within a block."""

    __slots__ = ("_from", "_looked", "_outer", "_runs", "host_time")

    def __init__(self, host_time: HostTime, *, runs: bool) -> None:
        self.host_time = host_time
        self._runs = runs
        self._outer: _Clock | None = None
        self._from = self._looked = 0.0

    def __enter__(self) -> None:
        self._outer = outer = _clocks.current
        now = time.thread_time()
        if outer is not None:
            outer._stop(now)
        self._start(now)
        _clocks.current = self

    def __exit__(self, *_: object) -> None:
        now = time.thread_time()
        self._stop(now)
        _clocks.current = outer = self._outer
        if outer is not None:
            outer._start(now)

    def read(self, *, at_once: bool = False) -> None:
        """Adds the time since the last reading, unless that was a moment ago."""
        if not self._runs or (not at_once and time.monotonic() - self._looked < READ_SECONDS):
            return
        now = time.thread_time()
        self._stop(now)
        self._start(now)

    def _start(self, now: float) -> None:
        self._from = now
        if self._runs:
            self._looked = time.monotonic()

    def _stop(self, now: float) -> None:
        if self._runs:
            self.host_time.add(now - self._from)


class _Clocks(threading.local):
    """The innermost clock of each thread."""

    current: _Clock | None = None


_clocks = _Clocks()


def _clock(*, runs: bool) -> AbstractContextManager[object]:
    """Returns a clock for the cell that this thread works for; nothing without one."""
    outer = _clocks.current
    return nullcontext() if outer is None else _Clock(outer.host_time, runs=runs)
