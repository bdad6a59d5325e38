"""Index of the characters and lines of UTF-8 bytes, for access without reading everything.

For each block of bytes it keeps the number of characters and line ends before it. Blocks are counted on demand, in
order, and stay counted. Knows no search.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from itertools import accumulate

from sandbox_runtime.texts.bytes import Reader, TextBytes
from sandbox_runtime.texts.deadline import Deadline

# Small enough that decoding one block takes a tenth of a millisecond.
BLOCK_BYTES = 256 * 1024

# Decoded blocks in the cache: neighbours are requested one after the other.
_CACHED_BLOCKS = 4

# The most bytes that UTF-8 has for a character.
_LONGEST = 4


class _Block:
    """A decoded block."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.text = data.decode("utf-8", "replace")
        self._begins: array[int] | None = None

    @property
    def begins(self) -> array[int]:
        """The offset of each line, and the end of the last; computed at first use."""
        if self._begins is None:
            lengths = map(len, self.text.split("\n"))
            self._begins = array("Q", accumulate((n + 1 for n in lengths), initial=0))
        return self._begins

    def byte_of(self, char: int) -> int:
        """Returns the byte offset of a character."""
        if len(self.data) == len(self.text):
            return char
        if "\ufffd" not in self.text:
            return len(self.text[:char].encode())
        # A character counts from its first byte, whatever follows.
        return bisect_right(
            range(len(self.data)), char, key=lambda n: count_chars(self.data[: n + 1])
        )

    def char_of(self, offset: int) -> int:
        """Returns the number of the character that begins at a byte."""
        return offset if len(self.data) == len(self.text) else count_chars(self.data[:offset])


class TextIndex:
    """Index of the characters and lines of a text. Thread-safe.

    Invalid bytes count as the U+FFFD that decoding makes of them.
    """

    def __init__(self, source: TextBytes, block_bytes: int = BLOCK_BYTES) -> None:
        """Starts with nothing counted."""
        self.source = source
        self.on_complete: Callable[[], object] = lambda: None
        """Called once all is counted."""
        self._block_bytes = max(_LONGEST, block_bytes)
        self._lock = threading.RLock()  # guards the fields below
        # The totals before each block, and after the last one.
        self._bytes = array("Q", [0])
        self._chars = array("Q", [0])
        self._ends = array("Q", [0])
        self._cache: OrderedDict[int, _Block] = OrderedDict()
        self.complete = False

    @property
    def counted(self) -> tuple[int, int, int]:
        """Returns the bytes, characters and line ends counted so far."""
        return self._bytes[-1], self._chars[-1], self._ends[-1]

    @property
    def block_bytes(self) -> int:
        """The most bytes of a block."""
        return self._block_bytes

    @property
    def columns(self) -> tuple[array[int], array[int], array[int]]:
        """The bytes, characters and line ends before each block, and after the last one."""
        return self._bytes, self._chars, self._ends

    def fill(self, columns: Sequence[array[int]]) -> None:
        """Takes the columns of a complete index of the same text, in place of counting."""
        with self._lock:
            self._bytes, self._chars, self._ends = columns
            self.complete = True

    def count_all(self, deadline: Deadline) -> tuple[int, int]:
        """Returns the number of characters and of line ends."""
        with deadline.holding(self._lock):
            self._count_while(lambda: True, deadline)
            return self._chars[-1], self._ends[-1]

    def count_to_char(self, char: int, deadline: Deadline) -> bool:
        """Counts up to this character; returns False if there are fewer."""
        with deadline.holding(self._lock):
            self._count_while(lambda: self._chars[-1] <= char, deadline)
            return char < self._chars[-1]

    def byte_of_char(self, char: int, deadline: Deadline) -> int:
        """Returns the byte offset of a character; the end of the text for a position beyond it."""
        with deadline.holding(self._lock):
            if not self.count_to_char(char, deadline):
                return self._bytes[-1]
            at = bisect_right(self._chars, char) - 1
            return self._bytes[at] + self._block(at).byte_of(char - self._chars[at])

    def block_of_char(self, char: int, deadline: Deadline) -> tuple[int, int, int]:
        """Returns a position well before a character: its byte, its character, and its line, from 1."""
        with deadline.holding(self._lock):
            self.count_to_char(char, deadline)
            at = max(0, min(bisect_right(self._chars, char) - 1, len(self._chars) - 2) - 1)
            return self._bytes[at], self._chars[at], self._ends[at] + 1

    def char_of_byte(self, offset: int, deadline: Deadline) -> int:
        """Returns the number of the character that begins at a byte."""
        with deadline.holding(self._lock):
            self._count_while(lambda: self._bytes[-1] <= offset, deadline)
            if offset >= self._bytes[-1]:
                return self._chars[-1]
            at = bisect_right(self._bytes, offset) - 1
            return self._chars[at] + self._block(at).char_of(offset - self._bytes[at])

    def line_of_char(self, char: int, deadline: Deadline) -> int:
        """Returns the line number, from 1, of a character."""
        with deadline.holding(self._lock):
            if not self.count_to_char(char, deadline):
                return self._ends[-1] + 1
            at = bisect_right(self._chars, char) - 1
            text = self._block(at).text
            return self._ends[at] + text.count("\n", 0, char - self._chars[at]) + 1

    def char_of_line(self, line: int, deadline: Deadline) -> int | None:
        """Returns the start of a line, by its number from 1; None if no line end precedes it."""
        if line <= 1:
            return 0
        with deadline.holding(self._lock):
            ends = line - 1  # the line begins after this many line ends
            self._count_while(lambda: self._ends[-1] < ends, deadline)
            if self._ends[-1] < ends:
                return None
            # Binary search for the last block with fewer line ends before it.
            low, high = 0, len(self._ends) - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self._ends[middle] < ends else (low, middle - 1)
            return self._chars[low] + self._block(low).begins[ends - self._ends[low]]

    def slice(self, start: int, stop: int, deadline: Deadline) -> str:
        """Returns the characters from `start` to before `stop`; fewer at the end of the text."""
        parts: list[str] = []
        with deadline.holding(self._lock):
            while start < stop and self.count_to_char(start, deadline):
                deadline.check()
                at = bisect_right(self._chars, start) - 1
                text = self._block(at).text
                first = self._chars[at]
                parts.append(text[start - first : stop - first])
                start = first + len(text)
        return "".join(parts)

    # ---- Counting ----

    def _count_while(self, unfinished: Callable[[], bool], deadline: Deadline) -> None:
        if self.complete or not unfinished():
            return
        with self.source.reading() as reader:
            while not self.complete and unfinished():
                deadline.check()
                data = self._next_block(self._bytes[-1], reader, deadline)
                if not data:
                    self.complete = True
                    self.on_complete()
                    return
                self._bytes.append(self._bytes[-1] + len(data))
                self._chars.append(self._chars[-1] + count_chars(data))
                self._ends.append(self._ends[-1] + data.count(b"\n"))

    def _next_block(self, offset: int, reader: Reader, deadline: Deadline) -> bytes:
        size = self._block_bytes + _LONGEST
        self.source.extend(offset + size, deadline)
        data = reader.at(offset, size)
        if len(data) <= self._block_bytes:
            return data
        return data[: char_boundary(data, self._block_bytes)]

    def _block(self, at: int) -> _Block:
        if at in self._cache:
            self._cache.move_to_end(at)
            with self.source.reading():  # checks that the file has not changed
                return self._cache[at]
        first, end = self._bytes[at], self._bytes[at + 1]
        with self.source.reading() as reader:
            self._cache[at] = _Block(reader.at(first, end - first))
        while len(self._cache) > _CACHED_BLOCKS:
            self._cache.popitem(last=False)
        return self._cache[at]


def count_chars(data: bytes) -> int:
    """Returns the number of characters that the bytes decode to."""
    return len(data) if data.isascii() else len(data.decode("utf-8", "replace"))


def char_boundary(data: bytes, at: int) -> int:
    """Returns the last boundary between characters at or before an offset."""
    for back in range(1, min(_LONGEST, at + 1)):
        byte = data[at - back]
        if byte & 0xC0 != 0x80:
            return at - back if _width(byte) > back else at
    return at


def _width(lead: int) -> int:
    if 0xC2 <= lead <= 0xDF:
        return 2
    if 0xE0 <= lead <= 0xEF:
        return 3
    return 4 if 0xF0 <= lead <= 0xF4 else 1


def blocks(
    source: TextBytes, start: int, size: int, deadline: Deadline
) -> Generator[tuple[int, bytes, bool], None, None]:
    """Yields the blocks from a byte to the end: offset, bytes, and whether it is the last.

    A block consists of whole lines; of whole characters where a line is longer than a block.
    """
    offset = start
    with source.reading() as reader:
        while True:
            deadline.check()
            source.extend(offset + size + _LONGEST, deadline)
            data = reader.at(offset, size + _LONGEST)
            last = len(data) <= size
            if not last:
                data = data[: data.rfind(b"\n", 0, size) + 1 or char_boundary(data, size)]
            yield offset, data, last
            if last:
                return
            offset += len(data)
