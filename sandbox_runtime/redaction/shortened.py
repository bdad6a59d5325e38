"""Finds secrets that a library has shortened: their beginning before an ellipsis, or their end after one.

Pydantic, for example, shows the first 25 and the last 24 characters of a long input that is invalid.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

_ELLIPSIS = re.compile(r"\.{3,}|\u2026")

# A piece of a secret is recognised from this length on. Secrets of less than twice as many characters are rarely shortened.
_LEAST = 8


def without_pieces(text: str, secrets: Iterable[str], hidden: str) -> str:
    """Returns the text with each beginning and end of a secret next to an ellipsis replaced."""
    cuts = [cut.span() for cut in _ELLIPSIS.finditer(text)]
    if not cuts:
        return text
    places = _places(frozenset(secret for secret in secrets if len(secret) >= 2 * _LEAST))
    parts, done = [], 0
    for start, end in cuts:
        first = max(start - _beginning(text, start, places), done)
        last = end + _end(text, end, places)
        parts += [text[done:first], hidden if first < start else "", text[start:end]]
        parts += [hidden if last > end else ""]
        done = last
    return "".join([*parts, text[done:]])


@functools.lru_cache(maxsize=8)
def _places(secrets: frozenset[str]) -> dict[str, list[tuple[str, int]]]:
    """Returns for each piece of the least length the secrets that have it, and where."""
    places: dict[str, list[tuple[str, int]]] = {}
    for secret in secrets:
        for at in range(len(secret) - _LEAST + 1):
            places.setdefault(secret[at : at + _LEAST], []).append((secret, at))
    return places


def _beginning(text: str, end: int, places: dict[str, list[tuple[str, int]]]) -> int:
    """Returns the length of the longest beginning of a secret that ends there."""
    found = places.get(text[max(0, end - _LEAST) : end], ())
    lengths = [at + _LEAST for secret, at in found if text.endswith(secret[: at + _LEAST], 0, end)]
    return max(lengths, default=0)


def _end(text: str, start: int, places: dict[str, list[tuple[str, int]]]) -> int:
    """Returns the length of the longest end of a secret that begins there."""
    found = places.get(text[start : start + _LEAST], ())
    lengths = [len(secret) - at for secret, at in found if text.startswith(secret[at:], start)]
    return max(lengths, default=0)
