"""The bytes of an object, read in pieces that are kept for a while and fetched ahead.

A search reads in order, and each request takes some tens of milliseconds: so pieces are large, and the next ones are under way while
one is searched. All objects of the process share the memory for them.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

from sandbox_runtime.texts.bytes import Reader
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.objects.store import Stamp, Store
from sandbox_runtime.threads import DaemonPool

PIECE_BYTES = 4 * 1024 * 1024

# Pieces that are fetched ahead while an object is read in order.
AHEAD = 2

# A read of so few bytes that continues no other one is a request of its own: the preview of a text reads its two ends.
SMALL_BYTES = 512 * 1024

# The memory for the pieces of all objects.
MOST_BYTES = 64 * 1024 * 1024

_numbers = itertools.count()
_fetchers = DaemonPool(8, "rlm-objects")


class PieceCache:
    """The pieces that were read last, or that are being fetched, of all objects. Thread-safe."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Starts empty."""
        self._most = most_bytes
        self._lock = threading.Lock()  # guards the fields below
        self._pieces: OrderedDict[tuple[int, int], tuple[Future[bytes], int]] = OrderedDict()
        self._bytes = 0

    def piece(self, source: ObjectBytes, number: int) -> Future[bytes]:
        """Returns a piece, which is fetched if necessary."""
        key = source.number, number
        with self._lock:
            future, size = self._pieces.get(key, (None, 0))
            if future is not None and not (future.done() and future.exception() is not None):
                self._pieces.move_to_end(key)
                return future
            self._bytes -= size
            size = min(PIECE_BYTES, source.stamp.size - number * PIECE_BYTES)
            future = _fetchers.submit(partial(source.fetch, number))
            self._pieces[key] = future, size
            self._bytes += size
            while self._bytes > self._most and len(self._pieces) > 1:
                _, (_, dropped) = self._pieces.popitem(last=False)
                self._bytes -= dropped
            return future

    def has(self, source: ObjectBytes, number: int) -> bool:
        """Returns whether a piece is there or on its way."""
        with self._lock:
            return (source.number, number) in self._pieces


PIECES = PieceCache()


class ObjectBytes:
    """The bytes of an object, unchanged since this was created; see `texts.bytes.FileBytes`."""

    complete = True

    def __init__(self, store: Store, stamp: Stamp, pieces: PieceCache = PIECES) -> None:
        """Reads nothing."""
        self.store, self.stamp = store, stamp
        self.number = next(_numbers)
        """The name of this object in the cache."""
        self._pieces = pieces
        self._skip = 0
        self._latest = range(0)
        self.size = stamp.size

    def skip(self, size: int) -> None:
        """Leaves out the first bytes, such as a byte order mark."""
        self._skip += size
        self.size -= size

    def extend(self, size: int, deadline: Deadline) -> None:
        """See `TextBytes`. The size of an object is known from the start."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """See `TextBytes`."""
        yield self

    def at(self, offset: int, size: int) -> bytes:
        """See `Reader`.

        Raises:
            TextChangedError: The object has changed.
            OSError: It cannot be read.
        """
        start = offset + self._skip
        stop = min(start + size, self.stamp.size)
        is_in_order = start in self._latest
        self._latest = range(start, stop + 1)
        if stop - start <= SMALL_BYTES and not is_in_order and not self._is_cached(start, stop):
            return self.store.read(start, stop, self.stamp)
        parts = []
        while start < stop:
            number = start // PIECE_BYTES
            begin = number * PIECE_BYTES
            data = self._piece(number, ahead=is_in_order)
            parts.append(data[start - begin : stop - begin])
            start = begin + PIECE_BYTES
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fetch(self, number: int) -> bytes:
        """Returns a piece from the store."""
        begin = number * PIECE_BYTES
        return self.store.read(begin, min(begin + PIECE_BYTES, self.stamp.size), self.stamp)

    def _piece(self, number: int, *, ahead: bool) -> bytes:
        future = self._pieces.piece(self, number)
        last = (self.stamp.size - 1) // PIECE_BYTES
        for later in range(number + 1, min(number + AHEAD, last) + 1) if ahead else ():
            self._pieces.piece(self, later)
        return future.result()

    def _is_cached(self, start: int, stop: int) -> bool:
        numbers = range(start // PIECE_BYTES, (stop - 1) // PIECE_BYTES + 1)
        return all(self._pieces.has(self, number) for number in numbers)
