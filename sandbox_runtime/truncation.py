"""Bounds the length of texts from the sandbox, on the host.

The sandbox abridges a cell's output, but a hostile cell can disable that. Every text that leaves a session is
therefore measured again here, and abridged in the same format.
"""

from __future__ import annotations

import dataclasses
import re

from sandbox_runtime.guest.tracebacks import LEAST_SHOWN_CHARS
from sandbox_runtime.sandbox import CellResult, Failed

# The maximum length of the line that states how much was omitted. It comes on top of the limit, so that a text
# which the sandbox has abridged already is not abridged again.
MAX_MARK_CHARS = 64

# The maximum length of an exception's name. Python itself has no limit.
MAX_NAME_CHARS = 200

_MARK = re.compile(r"\n\.\.\. \((\d{1,3}(?:,\d{3}){0,5}) characters omitted\) \.\.\.\n")

# A number with more digits is not a count of characters, and would not fit into the line.
_LARGEST_COUNT = 10**18


def abridged(text: str, limit: int) -> str:
    """Returns the text, or its head and tail with the number of omitted characters between.

    The result has at most `limit` + `MAX_MARK_CHARS` characters. Previous omissions are counted too.
    """
    if len(text) <= limit + MAX_MARK_CHARS:
        return text
    half = max(limit // 2, 1)
    middle = text[half:-half]
    omitted = len(middle)
    for mark in _MARK.finditer(middle):
        omitted += int(mark[1].replace(",", "")) - len(mark[0])
    count = min(omitted, _LARGEST_COUNT)
    return without_middle(text[:half], count, text[-half:])


def abridged_again(text: str, gap: int, limit: int) -> tuple[str, int]:
    """Returns the head and tail of an abridged text, and the position of the line between them.

    The line counts what was omitted before. A line like it that the text has elsewhere is not read.

    Args:
        text: The text.
        gap: The position of its line about omitted characters; 0 if it has none.
        limit: The most characters, without the line.
    """
    if len(text) <= limit + MAX_MARK_CHARS:
        return text, gap
    start = max(limit // 2, 1)
    end = len(text) - start
    mark = _MARK.match(text, gap) if gap else None
    if mark is None or mark.end() <= start or end <= gap:
        return without_middle(text[:start], end - start, text[end:]), start
    start, end = min(start, gap), max(end, mark.end())
    omitted = end - start - len(mark[0]) + int(mark[1].replace(",", ""))
    return without_middle(text[:start], omitted, text[end:]), start


def omission_in(text: str, limit: int) -> int:
    """Returns the position of the line that says how much of a text was omitted; 0 if nothing was.

    Such a line that a cell has printed itself is not it: a text that is not abridged is no longer than its two halves.
    """
    half = max(limit // 2, 1)
    mark = omission_at(text, half)
    return half if mark and len(text) == 2 * half + len(mark) else 0


def omission_at(text: str, position: int) -> str:
    """Returns the line, with its line breaks, if there is one at this position; else an empty text."""
    mark = _MARK.match(text, position)
    return mark[0] if mark else ""


def without_middle(head: str, omitted: int, tail: str) -> str:
    """The two ends of a text, and between them a line with the number of characters omitted."""
    return f"{head}\n... ({omitted:,} characters omitted) ...\n{tail}"


def with_gap(head: str, missing: str, tail: str) -> str:
    """Returns the two ends of a preview, with a line between them that says how much is not shown."""
    return f"{head}\n[... {missing} not shown ...]\n{tail}"


def in_one_line(text: str, limit: int) -> str:
    """Returns the first and last characters of a name or a short value, on one line."""
    half = max(limit // 2, 1)
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def plain(text: str, limit: int) -> str:
    """Returns text of the sandbox abridged, with lone surrogates escaped."""
    return abridged(printable(abridged(text, limit)), limit)


def bounded(result: CellResult, output_chars: int) -> CellResult:
    """Returns the end of a cell with all texts within the limit; the submitted values are unchanged."""
    output = plain(result.output, output_chars)
    if not isinstance(result, Failed):
        return result if output == result.output else dataclasses.replace(result, output=output)
    most = max(output_chars, LEAST_SHOWN_CHARS)
    return dataclasses.replace(
        result,
        error_type=in_one_line(printable(result.error_type), MAX_NAME_CHARS),
        message=plain(result.message, most),
        traceback=plain(result.traceback, most),
        output=output,
    )


def printable(text: str) -> str:
    """Returns text of the sandbox with lone surrogates escaped, since no encoding can carry them to an LM."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
