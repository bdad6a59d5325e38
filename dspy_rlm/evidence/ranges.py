"""A set of positions, as ranges that neither touch nor overlap."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Ranges of positions, sorted."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0
        """The number of positions."""

    def add(self, start: int, end: int) -> None:
        """Adds the positions from `start` to before `end`."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)  # the first range that ends there or later
        last = bisect_right(self._starts, end)  # behind the last range that starts there or before
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
            self.total -= sum(
                e - s for s, e in zip(self._starts[first:last], self._ends[first:last], strict=True)
            )
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        self.total += end - start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def covers(self, start: int, end: int) -> bool:
        """Returns whether all positions from `start` to before `end` are there."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._ends[at] >= end

    def gaps(self, length: int) -> Iterator[tuple[int, int]]:
        """Yields the ranges that are missing, up to a length."""
        at = 0
        for start, end in self:
            if start >= length:
                break
            if at < start:
                yield at, start
            at = end
        if at < length:
            yield at, length
