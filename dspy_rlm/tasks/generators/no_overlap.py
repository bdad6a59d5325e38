"""A needle that shares no word with its question, after NoLiMa: "Ada lives beside the Colosseum", and "Who has been to Rome?".

A search for the question's words finds nothing: the reader has to know where the landmark stands. Paragraphs of the haystack that
have a word of the question or of a needle are left out, so that the needles are the only text about it.
https://arxiv.org/abs/2502.05167
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.words import FIRST_NAMES, listed
from dspy_rlm.tasks.haystack import haystack, hidden, length_of
from dspy_rlm.tasks.task import Form, Item

LANDMARKS = {
    "Athens": "the Acropolis",
    "Barcelona": "the Sagrada Familia",
    "Beijing": "the Forbidden City",
    "Berlin": "the Brandenburg Gate",
    "Brussels": "the Atomium",
    "Budapest": "the Fisherman's Bastion",
    "Cairo": "the Pyramids of Giza",
    "Copenhagen": "the Tivoli Gardens",
    "Dresden": "the Semper Opera House",
    "Dubai": "the Burj Khalifa",
    "Florence": "the Uffizi Gallery",
    "Istanbul": "the Hagia Sophia",
    "London": "the Tower Bridge",
    "Moscow": "the Bolshoi Theatre",
    "Paris": "the Eiffel Tower",
    "Prague": "the Charles Bridge",
    "Rome": "the Colosseum",
    "Seattle": "the Space Needle",
    "Sydney": "the Harbour Bridge",
    "Toronto": "the CN Tower",
    "Vienna": "the Schönbrunn Palace",
    "Washington": "the Lincoln Memorial",
}
NEEDLES = (
    "{name} grew up right beside {landmark}.",
    "From the kitchen, {name} looks out on {landmark}.",
    "{name} sells postcards in front of {landmark}.",
    "Every morning {name} jogs once around {landmark}.",
)
DISTRACTORS = 3

FORM = Form(
    str,
    "The text mentions some people in passing. The answer follows from the text and from general knowledge.",
    "the first name of the person",
    scoring.same_text,
    scoring.contains,
)


def generate(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items with the needle and with needles about other cities."""
    for at in range(n):
        yield _item(draws.stream(at), chars, at)


def _item(draws: Draws, chars: int, at: int) -> Item:
    names = draws.sample(FIRST_NAMES, 1 + DISTRACTORS)
    cities = draws.sample(tuple(LANDMARKS), 1 + DISTRACTORS)
    needles = [
        draws.choice(NEEDLES).format(name=name, landmark=LANDMARKS[city])
        for name, city in zip(names, cities, strict=True)
    ]
    draws.shuffle(needles)
    question = f"Which character has certainly been to {cities[0]}?"
    words = content_words(question, *names, *cities, *(LANDMARKS[city] for city in cities))
    paragraphs = haystack(
        draws,
        chars - length_of(needles),
        lambda paragraph: words.isdisjoint(content_words(paragraph)),
    )
    context = hidden(draws, paragraphs, needles)
    return Item(f"niah-no-overlap-{at}", context, question, names[0], {"needles": len(needles)})


# Words that every text has.
_COMMON = frozenset(listed("the a an of to has been in on and is in right up out from once which"))


def content_words(*texts: str) -> set[str]:
    """Returns the words of texts in lower case, without those that every text has."""
    return set(re.findall(r"\w+", " ".join(texts).lower())) - _COMMON


def city_of(sentence: str) -> str | None:
    """Returns the city of the landmark in a sentence: the knowledge that the task asks for."""
    return next((city for city, landmark in LANDMARKS.items() if landmark in sentence), None)


def solve(context: str, question: str) -> str:
    """Returns the answer by looking up the city of each landmark in the text."""
    city = question.rpartition(" to ")[2].rstrip("?")
    (sentence,) = [line for line in context.split("\n") if city_of(line) == city]
    words: list[str] = re.findall(r"\w+", sentence)
    (name,) = {word for word in words if word in FIRST_NAMES}
    return name
