"""Context lines of a match, read in one pass."""

from __future__ import annotations

from sandbox_runtime.texts.bytes import Deadline
from sandbox_runtime.texts.index import TextIndex

# Of one line of context.
SHOWN_LINE_CHARS = 1000


def lines_around(
    index: TextIndex, line: int, before: int, after: int, deadline: Deadline
) -> list[list[str]]:
    """Returns the lines before and after a line, long ones truncated."""
    first = max(1, line - before)
    lines = _lines(index, first, line + after, deadline)
    return [lines[: line - first], lines[line - first + 1 :]]


def _lines(index: TextIndex, first: int, last: int, deadline: Deadline) -> list[str]:
    """Returns the lines from one number to another, as far as they exist."""
    lines: list[str] = []
    at = index.char_of_line(first, deadline)
    while at is not None and (missing := last - first + 1 - len(lines)) > 0:
        deadline.check()
        # All of them, unless one is long; then it is the first of another round.
        wanted = missing * (SHOWN_LINE_CHARS + 1)
        piece = index.slice(at, at + wanted, deadline)
        *whole, rest = piece.split("\n")
        whole = whole[:missing]
        lines += map(_shown, whole)
        if len(piece) < wanted:  # the text's end
            return lines + [_shown(rest)] * bool(rest and len(whole) < missing)
        at += sum(map(len, whole)) + len(whole)
        if not whole:
            lines.append(_shown(rest))
            at = index.char_of_line(first + len(lines), deadline)
    return lines


def _shown(line: str) -> str:
    if len(line) > SHOWN_LINE_CHARS:
        return f"{line[:SHOWN_LINE_CHARS]}[...]"
    return line.removesuffix("\r")
