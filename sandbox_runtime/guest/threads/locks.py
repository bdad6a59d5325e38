"""The lock of green threads. `threading` builds its other locks, events and queues on it."""

from __future__ import annotations

from asyncio import Future
from collections import deque
from typing import Any

from sandbox_runtime.guest.tasks import resolve
from sandbox_runtime.guest.threads.green_threads import GreenThreads


def lock_class(threads: GreenThreads) -> type:
    """Returns the class that replaces `threading.Lock`."""

    class Lock:
        """A lock. The thread that waits longest has it next."""

        __slots__ = ("__weakref__", "_held", "_waiting")

        def __init__(self) -> None:
            self._held = False
            self._waiting: deque[Future[bool]] = deque()

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            """Acquires the lock, and returns whether it could within the time."""
            if not blocking and timeout != -1:
                raise ValueError("can't specify a timeout for a non-blocking call")
            if timeout < 0 and timeout != -1:
                raise ValueError("timeout value must be a non-negative number")
            if not self._held:
                self._held = True
                return True
            if not blocking or timeout == 0:
                return False
            return threads.wait(self._waiting, timeout)

        def release(self) -> None:
            """Releases the lock, or passes it to the next that waits for it."""
            if not self._held:
                raise RuntimeError("release unlocked lock")
            while self._waiting:
                if resolve(self._waiting.popleft(), True):
                    return
            self._held = False

        def locked(self) -> bool:
            """Returns whether the lock is held."""
            return self._held

        def _at_fork_reinit(self) -> None:
            self._held = False
            self._waiting.clear()

        def __enter__(self) -> bool:
            return self.acquire()

        def __exit__(self, *_: Any) -> None:
            self.release()

        def __repr__(self) -> str:
            return f"<{'locked' if self._held else 'unlocked'} lock>"

    Lock.__module__, Lock.__qualname__ = "threading", "Lock"
    return Lock
