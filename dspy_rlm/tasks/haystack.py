"""Haystacks of real text, and needles hidden in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.library import prose

GAP = "\n\n"


def haystack(
    draws: Draws, chars: int, usable: Callable[[str], bool] = lambda paragraph: True
) -> list[str]:
    """Returns paragraphs of real text that take `chars` characters together, except for less than one paragraph.

    Args:
        draws: The draws that decide on the order of the files.
        chars: The length of the paragraphs and of the gaps between them.
        usable: A predicate; paragraphs that it refuses are left out.
    """
    found: list[str] = []
    left = chars
    for paragraph in prose(draws):
        if not usable(paragraph):
            continue
        left -= len(paragraph) + len(GAP)
        if left < 0:
            break
        found.append(paragraph)
    return found


def hidden(draws: Draws, paragraphs: Sequence[str], needles: Sequence[str]) -> str:
    """Returns the text of the paragraphs with the needles between them, at random places but in their order."""
    places = sorted(draws.below(len(paragraphs) + 1) for _ in needles)
    parts: list[str] = []
    start = 0
    for place, needle in zip(places, needles, strict=True):
        parts += [*paragraphs[start:place], needle]
        start = place
    return GAP.join([*parts, *paragraphs[start:]])


def length_of(needles: Sequence[str]) -> int:
    """Returns the characters that needles add to a haystack."""
    return sum(len(needle) + len(GAP) for needle in needles)
