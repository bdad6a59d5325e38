"""The deadline of one call on a text or directory, which can also be cancelled."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from sandbox_runtime.threads import call_after

# Interval at which a wait for another thread checks the deadline.
_PATIENCE_SECONDS = 0.05


class Deadline:
    """A deadline for work on a text. `cancel` may be called from any thread."""

    def __init__(self, seconds: float | None = None, name: str = "") -> None:
        """Starts the clock. `name` is the limit's, for the message; None for `seconds` means no limit."""
        self._end = None if seconds is None else time.monotonic() + seconds
        self._limit = f"{name}, {seconds:g} s" if seconds is not None else ""
        self._on_cancel: Callable[[], None] | None = None
        self.cancelled = False

    @property
    def remaining(self) -> float | None:
        """Returns the seconds until the deadline; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises `TimeoutError` after the deadline, `InterruptedError` after a cancellation."""
        if self.cancelled:
            raise InterruptedError("the work on a text was cancelled")
        if self.remaining == 0.0:
            raise TimeoutError(f"one operation on a text took too long ({self._limit})")

    def cancel(self) -> None:
        """Cancels the work at its next check."""
        self.cancelled = True
        # Read once: the block may end at any moment.
        if (action := self._on_cancel) is not None:
            action()

    @contextlib.contextmanager
    def ending(self, action: Callable[[], None]) -> Iterator[None]:
        """Calls `action` at the deadline or on cancellation, if the block is still running then."""
        end = self._end
        self._on_cancel = action
        with contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "_on_cancel", None)
            if end is not None:
                timer = call_after(lambda: end - time.monotonic(), action, "text-limit")
                stack.enter_context(timer)
            if self.cancelled:  # before the action was registered
                action()
            yield

    @contextlib.contextmanager
    def holding(self, lock: threading.Lock | threading.RLock) -> Iterator[None]:
        """Holds a lock while the block is running. Raises the errors of `check` while waiting for the lock."""
        while not lock.acquire(timeout=_PATIENCE_SECONDS):
            self.check()
        try:
            yield
        finally:
            lock.release()
