"""The length of texts that come from outside, kept on the host.

The sandbox shortens what a cell prints, but a hostile cell can change that. Every text that leaves a
session is therefore measured again here, and shortened in the same words.
"""

from __future__ import annotations

import dataclasses
import re

from sandbox_runtime.guest.tracebacks import LEAST_SHOWN_CHARS
from sandbox_runtime.sandbox import CellResult, Failed

# The line that says how much was left out is at most this long, so that a text which the sandbox has
# shortened already is not shortened again.
MAX_MARK_CHARS = 64

# The name of an exception. Python itself allows any length.
MAX_NAME_CHARS = 200

_MARK = re.compile(r"\n\.\.\. \((\d{1,3}(?:,\d{3}){0,5}) characters omitted\) \.\.\.\n")

# A number with more digits than this is no count of characters, and would not fit into the line.
_LARGEST_COUNT = 10**18


def abridged(text: str, limit: int) -> str:
    """The text, or its head and tail with the number of characters left out.

    At most `limit` and `MAX_MARK_CHARS` characters. What was left out before is counted too.
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


def without_middle(head: str, omitted: int, tail: str) -> str:
    """The two ends of a text, and between them a line with the number of characters omitted."""
    return f"{head}\n... ({omitted:,} characters omitted) ...\n{tail}"


def in_one_line(text: str, limit: int) -> str:
    """A name or a short value: its first and last characters, in one line."""
    half = max(limit // 2, 1)
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def plain(text: str, limit: int) -> str:
    """Text of the sandbox: abridged, and without lone surrogates, which are written as escapes."""
    return abridged(printable(abridged(text, limit)), limit)


def bounded(result: CellResult, output_chars: int) -> CellResult:
    """The end of a cell with all its texts within the limit; the submitted values are left."""
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
    """Text of the sandbox without lone surrogates, which no encoding can carry to an LM."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
