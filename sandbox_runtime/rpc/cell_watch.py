"""The host's own check of a cell's time, independent of the sandbox's clock."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sandbox_runtime.rpc.process import Process

# The sandbox enforces its own time limits. The host intervenes this much later.
BACKSTOP_SECONDS = 10.0

# The interval at which the sandbox's CPU time is checked.
LOOK_SECONDS = 0.5


class CellWatch:
    """Detects a cell that exceeds its time.

    The sandbox's clock stops while a cell waits, and a cell that has taken over the driver can fake waiting. The
    operating system's CPU time cannot be faked; it is checked at intervals. Nor can the time in which the host
    has waited for the cell and done nothing for it, which is the backstop for a cell that sleeps.
    """

    def __init__(self, process: Process, most_seconds: float) -> None:
        self._process = process
        self._most_seconds = most_seconds
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._before: Mapping[str, float] | None = None
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Notes that the host has waited for the cell."""
        self._waited += seconds

    def sees_too_much(self, now: float) -> bool:
        """Returns True if a single thread has used more CPU time than the cell may, or the host has waited too long."""
        if self._waited > self._most_seconds + BACKSTOP_SECONDS:
            return True
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_SECONDS
        worked = self._process.thread_seconds()
        if self._before is None:
            self._before = worked
        before = self._before
        return any(
            seconds - before.get(thread, 0) > self._most_seconds
            for thread, seconds in worked.items()
        )
