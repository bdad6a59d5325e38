"""Admission to a pool: a bound on open sessions, and a queue for the rest. Opens no session itself.

Free of deadlock for nested runs: the first child of a run that holds a slot is admitted at once, beyond
the bound if need be; further children queue, ahead of everyone else. So a chain of nested runs can always
finish.

Two rules go beyond "a child never waits", and both are needed. Not every child is admitted at once: a run
that starts a hundred sub-runs in parallel would otherwise undo the bound. And a queue in which nothing has
moved for `STALL_SECONDS` admits one more than the bound: a holder can wait for a slot in ways that are not
visible here (a thread of its own, another pool, a second session opened by hand), and a program that
finishes is worth more than the bound. Each such slot doubles the time until the next one, so slow runs
do not undo the bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import CancelledError, Future, InvalidStateError
from pathlib import Path

# Memory of a warm session with some data in it.
SESSION_BYTES = 256 * 1024 * 1024

# Sessions spend most of their time waiting for LMs, so one core serves several.
SESSIONS_A_CORE = 8

FEWEST = 4

# If nothing has moved for this long, the first waiter is admitted beyond the bound: a holder may depend on it in
# a way that is invisible here (a tool that starts a run in a thread without the context), and a program that
# ends is worth more than a bound. The next one is admitted after twice that time, so that slow runs do not undo
# the bound.
STALL_SECONDS = 30.0


def default_bound() -> int:
    """Returns how many sessions fit this machine: half of its memory, at most 8 per core."""
    room = (_memory_bytes() or 0) // 2 // SESSION_BYTES
    return max(FEWEST, min(room, SESSIONS_A_CORE * (os.cpu_count() or 1)))


def _memory_bytes() -> int | None:
    """Returns the memory this process may use, the cgroup's limit included; None if unknown."""
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # of a container
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return min(limits, default=None)


def available_bytes(system: Path = Path("/")) -> int | None:
    """Returns the memory that new processes can take without swapping, the cgroup's limit included; None if unknown.

    `system` is the root of the file system, whose `/proc` and `/sys` say it.
    """
    rooms = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (system / "proc/meminfo").read_text("ascii")
        rooms.append(1024 * int(text.partition("MemAvailable:")[2].split()[0]))
    with contextlib.suppress(
        OSError, ValueError
    ):  # of a container; the files that it caches can go
        group = system / "sys/fs/cgroup"
        most = int((group / "memory.max").read_text("ascii"))
        used = int((group / "memory.current").read_text("ascii"))
        fields = (line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
        cached = sum(int(size) for name, size in fields if name in ("active_file", "inactive_file"))
        rooms.append(max(most - used + cached, 0))
    return min(rooms, default=None)


class Slot:
    """A request for a session: queued, then granted. Release it when done, or to give up waiting."""

    def __init__(self, queue: AdmissionQueue, parent: Slot | None) -> None:
        self.parent = parent
        self.granted: Future[None] = Future()
        self.released = False
        self._queue = queue

    @property
    def is_child(self) -> bool:
        """True if the holder of another slot waits for this one."""
        return self.parent is not None and not self.parent.released

    def wait(self) -> None:
        """Blocks until the slot is granted, or released by another thread."""
        with contextlib.suppress(CancelledError):
            while True:
                with contextlib.suppress(TimeoutError):
                    return self.granted.result(self._queue.stall_seconds)
                self._queue.overcommit()

    async def acquire_async(self) -> None:
        """Waits like `wait`, without blocking the event loop. Cancelling it does not release the slot."""
        granted = asyncio.wrap_future(self.granted)
        while not granted.done():
            await asyncio.wait({granted}, timeout=self._queue.stall_seconds)
            if not granted.done():
                self._queue.overcommit()

    def release(self) -> None:
        """Gives up the slot, or the wait for it. Idempotent; never blocks."""
        self._queue.release(self)


class AdmissionQueue:
    """A bounded number of slots and the queue for them. Thread-safe, also across event loops."""

    def __init__(self, most: int, stall_seconds: float = STALL_SECONDS) -> None:
        self.most = most
        self.stall_seconds = stall_seconds
        self._lock = threading.Lock()  # guards everything below
        self._waiting: list[Slot] = []
        self._held: set[Slot] = set()
        self._beyond: set[Slot] = set()  # those admitted beyond the bound because nothing moved
        self._moved_at = time.monotonic()

    @property
    def held(self) -> int:
        """The number of granted slots."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """The number of queued requests."""
        return len(self._waiting)

    def request(self, parent: Slot | None = None) -> Slot:
        """Returns a slot, granted or queued. `parent` is the slot whose holder waits for this one."""
        slot = Slot(self, parent)
        with self._lock:
            if not self._waiting:
                self._moved_at = time.monotonic()
            self._waiting.append(slot)
            self._admit()
        return slot

    def release(self, slot: Slot) -> None:
        """Frees a slot, or removes a request from the queue."""
        with self._lock:
            slot.released = True
            if slot in self._held:
                self._held.discard(slot)
                self._beyond.discard(slot)
                self._moved_at = time.monotonic()
            elif slot in self._waiting:
                self._waiting.remove(slot)
            slot.granted.cancel()
            self._admit()

    def overcommit(self) -> None:
        """Admits one request beyond the bound, if nothing has moved for long."""
        with self._lock:
            stalled = self.stall_seconds * 2 ** len(self._beyond)
            if self._waiting and time.monotonic() - self._moved_at >= stalled:
                first = self._in_order()[0]
                self._grant(first)
                self._beyond.add(first)

    def _admit(self) -> None:
        for slot in self._in_order():
            if len(self._held) < self.most or self._is_first_child(slot):
                self._grant(slot)

    def _in_order(self) -> list[Slot]:
        """Returns the queue with children first: other slots wait for them."""
        return sorted(self._waiting, key=lambda slot: not slot.is_child)

    def _is_first_child(self, slot: Slot) -> bool:
        return slot.is_child and not any(other.parent is slot.parent for other in self._held)

    def _grant(self, slot: Slot) -> None:
        self._waiting.remove(slot)
        with contextlib.suppress(
            InvalidStateError
        ):  # its waiter was cancelled, and will release it
            slot.granted.set_result(None)
        self._held.add(slot)
        self._moved_at = time.monotonic()
