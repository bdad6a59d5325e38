"""Finds passages of known texts in other texts, in linear time: an index of hashed blocks, as in rsync.

Blocks of a fixed size of the known texts are indexed by their hash. A window of that size slides over the other text; where
its hash is known, the match is verified and extended in both directions, and the window continues behind it. So a
passage of twice the size is always found, while the index has one entry per block.

The idea is from the rsync algorithm, https://rsync.samba.org/tech_report/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

# The size of a block: half the shortest passage that is always found.
WIDTH = 32

# Blocks in the index. It takes some 100 bytes for each.
MAX_BLOCKS = 500_000

# Texts in the index that are shorter than two blocks.
MAX_SHORT = 2_000_000

# Places of one block: of a line that occurs more often, only these are compared.
_MAX_PLACES = 4

_COMPARED_CHARS = 4096

# Text in quotation marks, as in the `repr` of a list or in JSON.
_QUOTED = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"")

# The beginning of a line in a list: a bullet, a number, a name.
_LABEL = re.compile(r"^\s*(?:[-*>\u2022]|\(?\d+[.):\]]|[\w ]{1,30}:)\s+")

# Short texts that are searched for anywhere, if there are no more.
_FEW = 200

Slice = Callable[[int, int], str]


class Match(NamedTuple):
    """A passage of a known text."""

    key: int
    start: int
    end: int


class BlockIndex:
    """An index of known texts. Not thread-safe."""

    def __init__(self, width: int = WIDTH, most_blocks: int = MAX_BLOCKS) -> None:
        """Begins empty.

        Args:
            width: The size of a block.
            most_blocks: The bound on the index. The oldest blocks are dropped.
        """
        self._width = width
        self._most = most_blocks // 2
        # The newer half, and the older one, which is dropped as a whole.
        self._blocks: dict[int, tuple[tuple[int, int], ...]] = {}
        self._older: dict[int, tuple[tuple[int, int], ...]] = {}
        self._short: dict[str, tuple[tuple[int, int], ...]] = {}
        self._slices: dict[int, Slice] = {}

    def add(self, key: int, start: int, text: str, read: Slice) -> None:
        """Indexes a piece of a text.

        Args:
            key: The number of the text.
            start: The position of the piece in its text.
            text: The piece.
            read: Returns the characters of the text between two positions.
        """
        self._slices[key] = read
        width = self._width
        if len(text) < 2 * width:
            stripped = text.strip()
            if stripped and len(self._short) < MAX_SHORT:
                place = (key, start + text.index(stripped))
                places = self._short.get(stripped, ())
                if place not in places and len(places) < _MAX_PLACES:
                    self._short[stripped] = (*places, place)
            return
        # On a grid of the whole text, so that pieces that overlap have the same blocks.
        first = -start % width
        for at in range(first, len(text) - width + 1, width):
            block = text[at : at + width]
            if block.isspace():
                continue
            self._add_block(hash(block), (key, start + at))

    def _add_block(self, digest: int, place: tuple[int, int]) -> None:
        places = self._blocks.get(digest, ())
        if place in places or len(places) >= _MAX_PLACES:
            return
        self._blocks[digest] = (*places, place)
        if len(self._blocks) >= self._most:
            self._older, self._blocks = self._blocks, {}

    def matches(self, text: str) -> Iterator[Match]:
        """Yields the passages of known texts in a text, in order."""
        if self._short:
            yield from self._short_matches(text)
        if not self._blocks and not self._older:
            return
        width, at, end = self._width, 0, 0
        blocks, older = self._blocks, self._older
        last = len(text) - width
        while at <= last:
            digest = hash(text[at : at + width])
            places = blocks.get(digest) or older.get(digest)
            found, after = self._extended(text, at, end, places) if places else ([], 0)
            yield from found
            at += after or 1
            end = at if found else end

    def _extended(
        self, text: str, at: int, end: int, places: tuple[tuple[int, int], ...]
    ) -> tuple[list[Match], int]:
        """Returns the longest matches around a window, and how far they reach behind its beginning.

        All are of the same passage; there are none if only the hashes are equal.
        """
        best: list[Match] = []
        longest = reach = 0
        for key, start in places:
            read = self._slices[key]
            after = _common_prefix(text, at, read, start)
            if after < self._width:
                continue
            before = _common_suffix(text, at, max(end, at - 2 * self._width), read, start)
            match = Match(key, start - before, start + after)
            if before + after > longest:
                best, longest, reach = [match], before + after, after
            elif (before + after, after) == (longest, reach):
                best.append(match)
        return best, reach

    def _short_matches(self, text: str) -> Iterator[Match]:
        found: set[str] = set()
        if len(self._short) <= _FEW:
            found = {short for short in self._short if len(short) >= 4 and short in text}
        for piece in _pieces(text):
            if piece in self._short:
                found.add(piece)
        for short in found:
            for key, start in self._short[short]:
                yield Match(key, start, start + len(short))


def _pieces(text: str) -> Iterator[str]:
    """Yields the parts of a text that may be a short text as a whole: lines, and texts in quotation marks."""
    yield text.strip()
    for line in text.splitlines():
        yield line.strip()
        if label := _LABEL.match(line):
            yield line[label.end() :].strip()
        if "'" in line or '"' in line:
            for match in _QUOTED.finditer(line):
                yield (match[1] or match[2]).strip()


def _common_prefix(text: str, at: int, read: Slice, start: int) -> int:
    """Returns the length of what a text has from `at` in common with another from `start`."""
    total, size = 0, 64
    while True:
        one = text[at + total : at + total + size]
        other = read(start + total, start + total + len(one))
        if one != other:
            return total + _equal(one, other)
        if not one:
            return total
        total += len(one)
        size = min(2 * size, 64 * _COMPARED_CHARS)


def _common_suffix(text: str, at: int, first: int, read: Slice, start: int) -> int:
    """Returns the length of what a text has before `at`, from `first` on, in common with another before `start`."""
    size = min(at - first, start)
    one = text[at - size : at]
    other = read(start - size, start)
    return _equal(one[::-1], other[::-1])


def _equal(one: str, other: str) -> int:
    """Returns the length of the common beginning, by halves."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
