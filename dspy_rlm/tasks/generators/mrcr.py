"""Several requests of the same form about the same topic, after OpenAI's MRCR: which answer was the second?

A conversation in which a user asks for short texts. Some requests are equal, word by word; the answers to them are real text. The question
asks for one of those answers by its number, with a random string before it.
https://huggingface.co/datasets/openai/mrcr
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.words import ADJECTIVES, NOUNS
from dspy_rlm.tasks.library import prose
from dspy_rlm.tasks.task import Form, Item

NEEDLES = 4
PREFIX_CHARS = 10
_FORMS = (
    "article",
    "blog post",
    "essay",
    "letter",
    "news report",
    "note",
    "review",
    "speech",
    "story",
)
_NUMBERS = ("first", "second", "third", "fourth")
_CHARS = "abcdefghijkmnpqrstuvwxyz23456789"
_ANSWER_CHARS = 600

FORM = Form(
    str,
    "The context is a conversation of a user with an assistant.",
    "the random string, and after it the exact text of the assistant's answer",
    scoring.exact_text,
    scoring.mrcr,
)


def generate(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items, each a conversation with four equal requests."""
    for at in range(n):
        yield _item(draws.stream(at), chars, at)


def _item(draws: Draws, chars: int, at: int) -> Item:
    texts = _answers(draws)
    wanted = _request(draws)
    turns: list[tuple[str, str]] = []
    needles = [(wanted, next(texts)) for _ in range(NEEDLES)]
    left = chars - sum(map(_length, needles))
    while left > 0:
        turn = (_request(draws), next(texts))
        if turn[0] != wanted:
            turns.append(turn)
            left -= _length(turn)
    places = sorted(draws.below(len(turns) + 1) for _ in needles)
    for place, needle in reversed(list(zip(places, needles, strict=True))):
        turns.insert(place, needle)
    number = draws.below(NEEDLES)
    prefix = "".join(draws.choice(_CHARS) for _ in range(PREFIX_CHARS))
    question = f"Prepend {prefix} to the {_NUMBERS[number]} answer to this request, and give nothing else: {wanted}"
    context = "\n\n".join(f"User: {request}\n\nAssistant: {text}" for request, text in turns)
    answer = prefix + needles[number][1]
    return Item(f"mrcr-{at}", context, question, answer, {"turns": len(turns), "needles": NEEDLES})


def _length(turn: tuple[str, str]) -> int:
    return len("User: \n\nAssistant: \n\n") + len(turn[0]) + len(turn[1])


def _request(draws: Draws) -> str:
    return f"Write {_article(draws.choice(_FORMS))} about {_article(draws.choice(ADJECTIVES))} {draws.choice(NOUNS)}."


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _answers(draws: Draws) -> Iterator[str]:
    """Yields texts of a few paragraphs each, which begin with a random mark, so that no two are equal."""
    paragraphs = prose(draws)
    marks: set[str] = set()
    while True:
        mark = draws.hexadecimal(8)
        if mark in marks:
            continue
        marks.add(mark)
        parts = [f"Draft {mark}."]
        while sum(map(len, parts)) < _ANSWER_CHARS:
            parts.append(next(paragraphs))
        yield "\n".join(parts)


def solve(context: str, question: str) -> str:
    """Returns the answer by walking through the text from one request to the next."""
    prefix = question.split()[1]
    number = _NUMBERS.index(question.split(" to the ")[1].split()[0])
    request = question.partition("give nothing else: ")[2]
    marker = f"User: {request}\n\nAssistant: "
    at = -1
    for _ in range(number + 1):
        at = context.index(marker, at + 1)
    answer = context[at + len(marker) :]
    return prefix + re.split(r"\n\nUser: ", answer, maxsplit=1)[0]
