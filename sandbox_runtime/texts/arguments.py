"""Checks of the arguments of calls that cells make. All of them are hostile until they are checked here."""

from __future__ import annotations

from typing import Any

MAX_HITS = 10_000
MAX_CONTEXT_LINES = 100
MAX_NEEDLE_CHARS = 1_000_000


def position(value: Any, least: int = 0) -> int:
    """Returns a position, or a count, of at least `least`."""
    if type(value) is not int:
        raise TypeError(f"a position must be an integer, not {type(value).__name__}")
    if not least <= value < 2**62:
        raise ValueError(f"a position must be {least} or more")
    return value


def optional_position(value: Any) -> int | None:
    """Returns a position; None for None."""
    return None if value is None else position(value)


def short_text(value: Any) -> str:
    """Returns a text of at most `MAX_NEEDLE_CHARS` characters."""
    if type(value) is not str:
        raise TypeError(f"it must be a text, not {type(value).__name__}")
    if len(value) > MAX_NEEDLE_CHARS:
        raise ValueError(f"a text to search for may have at most {MAX_NEEDLE_CHARS:,} characters")
    return value


def match_limit(value: Any) -> int:
    """Returns a maximum number of matches."""
    if not 1 <= position(value) <= MAX_HITS:
        raise ValueError(f"a limit must be from 1 to {MAX_HITS:,}")
    return int(value)


def context_lines(value: Any) -> int:
    """Returns a number of lines before or after a match."""
    if position(value) > MAX_CONTEXT_LINES:
        raise ValueError(f"before and after may be at most {MAX_CONTEXT_LINES} lines")
    return int(value)
