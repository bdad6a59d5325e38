"""Needles in a haystack, after RULER: a magic number for a key, hidden in real text.

Single: one needle. Multi-key: three needles with other keys. Multi-value: four needles with the same key.
https://arxiv.org/abs/2404.06654
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.words import ADJECTIVES, NOUNS
from dspy_rlm.tasks.haystack import haystack, hidden, length_of
from dspy_rlm.tasks.task import Form, Item

NEEDLE = "One of the special magic numbers for {key} is: {value}."
DISTRACTORS = 3
VALUES = 4

_INSTRUCTIONS = (
    "Some special magic numbers are hidden in the text. Find what the question asks for."
)

ONE = Form(
    str, _INSTRUCTIONS, "the magic number, digits only", scoring.same_text, scoring.ruler_all
)
ALL = Form(
    list[str],
    _INSTRUCTIONS,
    "all magic numbers for the key, digits only",
    scoring.same_set,
    scoring.ruler_all,
)


def single(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items with one needle."""
    for at in range(n):
        yield _one(draws.stream(at), chars, f"s-niah-{at}", distractors=0)


def multi_key(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items with needles of other keys beside the one that the question asks for."""
    for at in range(n):
        yield _one(draws.stream(at), chars, f"mk-niah-{at}", distractors=DISTRACTORS)


def multi_value(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items with several needles of one key."""
    for at in range(n):
        own = draws.stream(at)
        (key,) = _keys(own, 1)
        values = sorted(_numbers(own, VALUES))
        needles = [NEEDLE.format(key=key, value=value) for value in own.sample(values, VALUES)]
        context = hidden(own, haystack(own, chars - length_of(needles)), needles)
        question = f"What are all the special magic numbers for {key} in the text?"
        yield Item(f"mv-niah-{at}", context, question, values, {"needles": VALUES})


def _one(draws: Draws, chars: int, name: str, *, distractors: int) -> Item:
    keys = _keys(draws, 1 + distractors)
    values = _numbers(draws, 1 + distractors)
    needles = [NEEDLE.format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
    draws.shuffle(needles)
    context = hidden(draws, haystack(draws, chars - length_of(needles)), needles)
    question = f"What is the special magic number for {keys[0]} in the text?"
    return Item(name, context, question, values[0], {"needles": len(needles)})


def _keys(draws: Draws, count: int) -> list[str]:
    return [f"{draws.choice(ADJECTIVES)}-{noun}" for noun in draws.sample(NOUNS, count)]


def _numbers(draws: Draws, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[draws.digits(7)] = None
    return list(found)


def solve_one(context: str, question: str) -> str:
    """Returns the answer by a search of the text."""
    (value,) = solve_all(context, question)
    return value


def solve_all(context: str, question: str) -> list[str]:
    """Returns all values of the question's key by a search of the text."""
    key = question.partition(" for ")[2].partition(" in the text")[0]
    lines = [line for line in context.split("\n") if f"special magic numbers for {key} is" in line]
    return sorted(re.findall(r"is: (\d{7})\.", "\n".join(lines)))
