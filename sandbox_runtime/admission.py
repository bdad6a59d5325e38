"""Admission to a pool: a bound on open sessions, and a queue of those who wait. Opens no session itself.

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

# What a warm session takes, with something to work on.
SESSION_BYTES = 256 * 1024 * 1024

# Sessions wait for LMs most of their time, so that a core serves several.
SESSIONS_A_CORE = 8

FEWEST = 4

# Where nothing has moved for so long, the first in line is let in beyond the bound. Those who sit may wait
# for him in a way that cannot be seen from here, and a bound is worth less than a program that ends. The
# next one is let in after twice that time, so that slow runs do not undo the bound.
STALL_SECONDS = 30.0


def default_bound() -> int:
    """How many sessions this machine has room for: half of its memory, and 8 for each core at most."""
    room = (_memory_bytes() or 0) // 2 // SESSION_BYTES
    return max(FEWEST, min(room, SESSIONS_A_CORE * (os.cpu_count() or 1)))


def _memory_bytes() -> int | None:
    """What this process may use; None where the system does not tell."""
    known = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # of a container
        known.append(int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return min(known, default=None)


class Slot:
    """A place in line, and then a seat. To be left when it is not needed any more, or not waited for."""

    def __init__(self, seats: AdmissionQueue, parent: Slot | None) -> None:
        self.parent = parent
        self.granted: Future[None] = Future()
        self.released = False
        self._seats = seats

    @property
    def is_child(self) -> bool:
        """Whether somebody who has a seat waits for this one."""
        return self.parent is not None and not self.parent.released

    def wait(self) -> None:
        """Blocks until the seat is granted, or is left by another thread."""
        with contextlib.suppress(CancelledError):
            while True:
                with contextlib.suppress(TimeoutError):
                    return self.granted.result(self._seats.stall_seconds)
                self._seats.overcommit()

    async def acquire_async(self) -> None:
        """Like `wait`, for an event loop. Cancelling it does not leave the line."""
        granted = asyncio.wrap_future(self.granted)
        while not granted.done():
            await asyncio.wait({granted}, timeout=self._seats.stall_seconds)
            if not granted.done():
                self._seats.overcommit()

    def release(self) -> None:
        """Gives the seat up, or the place in line. Doing so twice is fine; never blocks."""
        self._seats.release(self)


class AdmissionQueue:
    """A number of seats, and the line before them. Safe to use from many threads and event loops."""

    def __init__(self, most: int, stall_seconds: float = STALL_SECONDS) -> None:
        self.most = most
        self.stall_seconds = stall_seconds
        self._lock = threading.Lock()  # guards everything below
        self._line: list[Slot] = []
        self._held: set[Slot] = set()
        self._beyond: set[Slot] = set()  # those of them that were let in because nothing moved
        self._moved_at = time.monotonic()

    @property
    def taken(self) -> int:
        """How many have a seat now."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def ask(self, parent: Slot | None = None) -> Slot:
        """A seat, or a place in line for one. `above` is the seat of the one who waits for this one."""
        slot = Slot(self, parent)
        with self._lock:
            if not self._line:
                self._moved_at = time.monotonic()
            self._line.append(slot)
            self._let_in()
        return slot

    def release(self, slot: Slot) -> None:
        """Frees a seat, or a place in line."""
        with self._lock:
            slot.released = True
            if slot in self._held:
                self._held.discard(slot)
                self._beyond.discard(slot)
                self._moved_at = time.monotonic()
            elif slot in self._line:
                self._line.remove(slot)
            slot.granted.cancel()
            self._let_in()

    def overcommit(self) -> None:
        """Lets in one more than there are seats, if nothing has moved for long."""
        with self._lock:
            patience = self.stall_seconds * 2 ** len(self._beyond)
            if self._line and time.monotonic() - self._moved_at >= patience:
                first = self._in_order()[0]
                self._grant(first)
                self._beyond.add(first)

    def _let_in(self) -> None:
        for slot in self._in_order():
            if len(self._held) < self.most or self._is_first_child(slot):
                self._grant(slot)

    def _in_order(self) -> list[Slot]:
        """Those below a seat go first: others wait for them."""
        return sorted(self._line, key=lambda slot: not slot.is_child)

    def _is_first_child(self, slot: Slot) -> bool:
        return slot.is_child and not any(other.parent is slot.parent for other in self._held)

    def _grant(self, slot: Slot) -> None:
        self._line.remove(slot)
        with contextlib.suppress(InvalidStateError):  # its waiter was cancelled, and will leave
            slot.granted.set_result(None)
        self._held.add(slot)
        self._moved_at = time.monotonic()
