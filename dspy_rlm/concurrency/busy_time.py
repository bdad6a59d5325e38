"""A clock that runs while something is under way."""

from __future__ import annotations

import threading
import time


class BusyTime:
    """The time in which at least one call was under way. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards everything below
        self._under_way = 0
        self._since = 0.0
        self._seconds = 0.0

    def enter(self) -> None:
        """A call begins."""
        with self._lock:
            if not self._under_way:
                self._since = time.monotonic()
            self._under_way += 1

    def leave(self) -> None:
        """A call has ended."""
        with self._lock:
            self._under_way -= 1
            if not self._under_way:
                self._seconds += time.monotonic() - self._since

    @property
    def seconds(self) -> float:
        """The time so far."""
        with self._lock:
            busy = time.monotonic() - self._since if self._under_way else 0.0
            return self._seconds + busy
