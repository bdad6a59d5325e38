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

The bound is that of the node: each slot within it also takes a seat that all processes share (`node_seats.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import CancelledError, Future, InvalidStateError
from pathlib import Path

from sandbox_runtime.machine import cpus, memory_bytes
from sandbox_runtime.node_seats import NodeSeats
from sandbox_runtime.threads import start_thread

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


# The number of sandboxes of all processes of a node together, instead of the computed one.
BOUND_VARIABLE = "DSPY_RLM_MAX_SESSIONS"

# While a request waits for a seat of the node, it is looked at this often whether another process has freed one.
LOOK_SECONDS = 0.1

# A process that frees a seat takes no other one for so long while others wait.
YIELD_SECONDS = 3 * LOOK_SECONDS


def default_bound(system: Path = Path("/")) -> int:
    """Returns how many sessions fit this node: half of its memory, at most 8 per core; those of the container, if it has limits.

    Raises:
        ValueError: `DSPY_RLM_MAX_SESSIONS` is set, and is not a number of 1 or more.
    """
    if configured := os.environ.get(BOUND_VARIABLE, ""):
        if not configured.isascii() or not configured.isdigit() or int(configured) < 1:
            raise ValueError(
                f"{BOUND_VARIABLE} must be a whole number, 1 or more, not {configured!r}."
            )
        return int(configured)
    room = (memory_bytes(system) or 0) // 2 // SESSION_BYTES
    return max(FEWEST, min(room, int(SESSIONS_A_CORE * cpus(system))))


class Slot:
    """A request for a session: queued, then granted. Release it when done, or to give up waiting."""

    def __init__(self, queue: AdmissionQueue, parent: Slot | None) -> None:
        self.parent = parent
        self.granted: Future[None] = Future()
        self.released = False
        self.seat: int | None = None
        """The seat of the node that it holds; None: it was admitted beyond the bound."""
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

    def __init__(
        self,
        most: int,
        stall_seconds: float = STALL_SECONDS,
        seats: NodeSeats | None = None,
        *,
        needs_seat: bool = True,
    ) -> None:
        """Creates an empty queue.

        Args:
            most: The slots at the same time.
            stall_seconds: See `STALL_SECONDS`.
            seats: The seats of the node; None: this queue counts by itself.
            needs_seat: False to take seats while there are free ones, and to go on without.
        """
        self.most = most
        self.stall_seconds = stall_seconds
        self._lock = threading.Lock()  # guards everything below
        self._seats = seats
        self._needs_seat = needs_seat
        self._yields_until = 0.0
        self._looks = False  # whether a thread looks for seats
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
                self._free_seat(slot)
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
                self._take_seat(first)
                self._grant(first)
                self._beyond.add(first)

    def forget(self) -> None:
        """Closes the files of seats in a forked child: they are those of its parent."""
        if self._seats is not None:
            self._seats.forget()

    def _admit(self) -> None:
        for slot in self._in_order():
            if self._is_first_child(slot):
                self._take_seat(slot)
                self._grant(slot)
            elif len(self._held) < self.most:
                if not self._take_seat(slot) and self._needs_seat:
                    self._look_again()
                    break
                self._grant(slot)
        if self._seats is not None and not self._waiting:
            self._seats.wait(False)

    def _take_seat(self, slot: Slot) -> bool:
        """Takes a seat of the node for a slot; returns whether there was one."""
        if self._seats is None:
            return True
        if self._needs_seat and self._held and time.monotonic() < self._yields_until:
            return False
        slot.seat = self._seats.take()
        return slot.seat is not None

    def _free_seat(self, slot: Slot) -> None:
        if self._seats is None or slot.seat is None:
            return
        self._seats.release(slot.seat)
        slot.seat = None
        # Otherwise this process would always be the first to take it again.
        if self._waiting and self._seats.others_wait():
            self._yields_until = time.monotonic() + YIELD_SECONDS

    def _look_again(self) -> None:
        """Has a thread admit what waits for a seat, once another process has freed one."""
        if self._seats is not None:
            self._seats.wait(True)
        if not self._looks:
            self._looks = True
            start_thread(self._look, "sandbox-seats")

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with self._lock:
                if not self._waiting or len(self._held) >= self.most:
                    self._looks = False  # the next release admits
                    if self._seats is not None:
                        self._seats.wait(False)
                    return
                self._admit()

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
