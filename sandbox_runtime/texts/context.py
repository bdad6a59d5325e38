"""Context lines of a match, read in one pass."""

from __future__ import annotations

from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.index import TextIndex

# The characters shown of one line of context.
SHOWN_LINE_CHARS = 1000


def lines_around(
    index: TextIndex, line: int, before: int, after: int, deadline: Deadline
) -> list[list[str]]:
    """Returns the lines before and after a line, long ones truncated."""
    first = max(1, line - before)
    lines = _lines(index, first, line + after, deadline)
    return [lines[: line - first], lines[line - first + 1 :]]


def _lines(index: TextIndex, first: int, last: int, deadline: Deadline) -> list[str]:
    """Returns the existing lines between two line numbers, both included."""
    lines: list[str] = []
    at = index.char_of_line(first, deadline)
    while at is not None and (missing := last - first + 1 - len(lines)) > 0:
        deadline.check()
        # Enough for all of them, unless one is long; the long one begins the next round.
        size = missing * (SHOWN_LINE_CHARS + 1)
        piece = index.slice(at, at + size, deadline)
        *whole, rest = piece.split("\n")
        whole = whole[:missing]
        lines += map(_truncated, whole)
        if len(piece) < size:  # the end of the text
            return lines + [_truncated(rest)] * bool(rest and len(whole) < missing)
        at += sum(map(len, whole)) + len(whole)
        if not whole:
            lines.append(_truncated(rest))
            at = index.char_of_line(first + len(lines), deadline)
    return lines


def _truncated(line: str) -> str:
    if len(line) > SHOWN_LINE_CHARS:
        return f"{line[:SHOWN_LINE_CHARS]}[...]"
    return line.removesuffix("\r")
