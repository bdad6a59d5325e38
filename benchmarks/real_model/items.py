"""Two tasks of real film reviews, one line each: a needle, and the film with the most good reviews. Deterministic.

Each item is a document of its own, so that items are independent: no two have a fact in common. Review lines that fill a
document are drawn from 6,333 and may be in several.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

import dspy

FIRST = [
    "Maria",
    "Tom",
    "Aisha",
    "Pedro",
    "Ingrid",
    "Kenji",
    "Olga",
    "Luca",
    "Noor",
    "Felix",
    "Greta",
    "Omar",
    "Hana",
    "Boris",
    "Celia",
]
LAST = [
    "Lopez",
    "Baker",
    "Rahman",
    "Silva",
    "Berg",
    "Mori",
    "Petrov",
    "Conti",
    "Haddad",
    "Kraus",
    "Olsen",
    "Farouk",
    "Sato",
    "Ivanov",
]
DISHES = (
    "ginger tea", "tomato soup", "lemon cake", "black coffee", "apple juice", "cheese toast", "onion pie", "peach sorbet",
    "salted popcorn", "rice pudding",
)  # fmt: skip
NOTES = (
    "note : {name} ordered {dish} before the screening .",
    "note : before the film , {name} asked the bar for {dish} .",
    "note : the bar brought {dish} to {name} in row four .",
)
FILMS = ("Amber", "Birch", "Coral", "Drift")


# Reviews of each film in a document.
REVIEWS = 3

BEST = "Which film has the most positive reviews?"


def reviews(path: Path) -> list[tuple[str, bool]]:
    """Returns one-line reviews with their labels: true for a positive one."""
    csv.field_size_limit(10_000_000)
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [
            (row["text"].strip(), row["label"] == "1")
            for row in csv.DictReader(file)
            if row["source"] == "rotten_tomatoes" and 40 <= len(row["text"]) <= 160
        ]


def needles(lines: list[tuple[str, bool]], n: int, length: int, seed: int) -> list[dspy.Example]:
    """Returns documents of review lines with five notes each, and a question about one of these."""
    rng = random.Random(seed)
    return [_needle(rng, lines, length) for _ in range(n)]


def _needle(rng: random.Random, lines: list[tuple[str, bool]], length: int) -> dspy.Example:
    document = [text for text, _ in rng.sample(lines, length)]
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 5), rng.sample(LAST, 5), strict=True)]
    dishes = rng.sample(DISHES, 5)
    for name, dish in zip(names, dishes, strict=True):
        note = rng.choice(NOTES).format(name=name, dish=dish)
        document.insert(rng.randrange(len(document) + 1), note)
    asked = rng.randrange(5)
    return dspy.Example(
        context="\n".join(document),
        question=f"What did {names[asked]} have?",
        answer=dishes[asked],
        others=[dish for dish in dishes if dish != dishes[asked]],
    ).with_inputs("context", "question")


def needle_score(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    """Returns whether a short answer names the dish and none of the others."""
    answer = str(prediction.answer).lower()
    return (
        example.answer in answer
        and not any(dish in answer for dish in example.others)
        and len(answer.split()) <= 12
    )


def films(lines: list[tuple[str, bool]], n: int, seed: int) -> list[dspy.Example]:
    """Returns documents of three reviews for each of four films: good ones for one, at most one good one for the others."""
    rng = random.Random(seed)
    good = [text for text, label in lines if label]
    bad = [text for text, label in lines if not label]
    return [_film(rng, good, bad) for _ in range(n)]


def _film(rng: random.Random, good: list[str], bad: list[str]) -> dspy.Example:
    best = rng.choice(FILMS)
    shares = {film: REVIEWS if film == best else rng.choice([0, 1]) for film in FILMS}
    liked = rng.sample(good, sum(shares.values()))
    panned = rng.sample(bad, REVIEWS * len(FILMS) - len(liked))
    document = []
    for film, share in shares.items():
        document += [f"{film}: {liked.pop()}" for _ in range(share)]
        document += [f"{film}: {panned.pop()}" for _ in range(REVIEWS - share)]
    rng.shuffle(document)
    example = dspy.Example(context="\n".join(document), question=BEST, answer=best)
    return example.with_inputs("context", "question")


def film_score(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    """Returns whether the film is the right one."""
    return bool(prediction.answer == example.answer)
