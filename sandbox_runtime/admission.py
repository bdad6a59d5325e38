"""Who may have a session now: a bound, and a line for those who wait. Opens no session itself.

Nobody waits for himself: whoever has a seat gets one below it at once, as long as he has no other below
it; more of them wait in line. So whatever has a seat can come to its end, however deep runs are nested.
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
PATIENCE_SECONDS = 30.0


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


class Seat:
    """A place in line, and then a seat. To be left when it is not needed any more, or not waited for."""

    def __init__(self, seats: Seats, above: Seat | None) -> None:
        self.above = above
        self.granted: Future[None] = Future()
        self.left = False
        self._seats = seats

    @property
    def is_below(self) -> bool:
        """Whether somebody who has a seat waits for this one."""
        return self.above is not None and not self.above.left

    def wait(self) -> None:
        """Blocks until the seat is granted, or is left by another thread."""
        with contextlib.suppress(CancelledError):
            while True:
                with contextlib.suppress(TimeoutError):
                    return self.granted.result(self._seats.patience_seconds)
                self._seats.let_in_the_first()

    async def sit(self) -> None:
        """Like `wait`, for an event loop. Cancelling it does not leave the line."""
        granted = asyncio.wrap_future(self.granted)
        while not granted.done():
            await asyncio.wait({granted}, timeout=self._seats.patience_seconds)
            if not granted.done():
                self._seats.let_in_the_first()

    def leave(self) -> None:
        """Gives the seat up, or the place in line. Doing so twice is fine; never blocks."""
        self._seats.take_back(self)


class Seats:
    """A number of seats, and the line before them. Safe to use from many threads and event loops."""

    def __init__(self, most: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.most = most
        self.patience_seconds = patience_seconds
        self._lock = threading.Lock()  # guards everything below
        self._line: list[Seat] = []
        self._taken: set[Seat] = set()
        self._beyond: set[Seat] = set()  # those of them that were let in because nothing moved
        self._moved_at = time.monotonic()

    @property
    def taken(self) -> int:
        """How many have a seat now."""
        return len(self._taken)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def ask(self, above: Seat | None = None) -> Seat:
        """A seat, or a place in line for one. `above` is the seat of the one who waits for this one."""
        seat = Seat(self, above)
        with self._lock:
            if not self._line:
                self._moved_at = time.monotonic()
            self._line.append(seat)
            self._let_in()
        return seat

    def take_back(self, seat: Seat) -> None:
        """Frees a seat, or a place in line."""
        with self._lock:
            seat.left = True
            if seat in self._taken:
                self._taken.discard(seat)
                self._beyond.discard(seat)
                self._moved_at = time.monotonic()
            elif seat in self._line:
                self._line.remove(seat)
            seat.granted.cancel()
            self._let_in()

    def let_in_the_first(self) -> None:
        """Lets in one more than there are seats, if nothing has moved for long."""
        with self._lock:
            patience = self.patience_seconds * 2 ** len(self._beyond)
            if self._line and time.monotonic() - self._moved_at >= patience:
                first = self._in_order()[0]
                self._grant(first)
                self._beyond.add(first)

    def _let_in(self) -> None:
        for seat in self._in_order():
            if len(self._taken) < self.most or self._is_first_below(seat):
                self._grant(seat)

    def _in_order(self) -> list[Seat]:
        """Those below a seat go first: others wait for them."""
        return sorted(self._line, key=lambda seat: not seat.is_below)

    def _is_first_below(self, seat: Seat) -> bool:
        return seat.is_below and not any(other.above is seat.above for other in self._taken)

    def _grant(self, seat: Seat) -> None:
        self._line.remove(seat)
        with contextlib.suppress(InvalidStateError):  # its waiter was cancelled, and will leave
            seat.granted.set_result(None)
        self._taken.add(seat)
        self._moved_at = time.monotonic()
