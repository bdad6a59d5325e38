"""All pairs of users that satisfy a condition, after OOLONG-Pairs: the output grows with the square of the input.

The twenty conditions are those of appendix E.1 of the paper (first version, December 2025). Its later version has another first
condition: "description and abstract concept or entity" instead of "numeric value or location".
https://arxiv.org/abs/2512.24601
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Any

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.labelled_lines import (
    ABBREVIATION,
    DESCRIPTION,
    ENTITY,
    HUMAN,
    LABELS,
    LOCATION,
    NUMBER,
    Line,
    counts_of,
    lines,
    read,
    text_of,
)
from dspy_rlm.tasks.task import Form, Item

FORM = Form(
    list[tuple[int, int]],
    "Each line of the data is a question that a user asked on a date. The labels of the lines are not in the data: they follow from "
    "the meaning of each question.",
    "all pairs of user IDs, each pair once and with the lower ID first",
    scoring.f1_of_pairs,
    scoring.oolong_pairs,
)


@dataclass(frozen=True)
class Both:
    """Both users have a line with one of two labels; for some conditions, all their lines of one label are on one side of a day."""

    labels: tuple[str, str]
    label: str = ""
    side: str = ""
    day: date = date.min


@dataclass(frozen=True)
class OneAndOther:
    """One user satisfies the first part, the other one the second. A part: labels, each with "at least" or "exactly" a number."""

    one: tuple[tuple[str, str, int], ...]
    other: tuple[tuple[str, str, int], ...]


_LEAST, _EXACT = "at least", "exactly"

CONDITIONS: tuple[Both | OneAndOther, ...] = (
    Both((NUMBER, LOCATION)),
    Both((ENTITY, HUMAN)),
    Both((DESCRIPTION, ABBREVIATION)),
    Both((HUMAN, LOCATION), HUMAN, "after", date(2023, 1, 6)),
    Both((ENTITY, NUMBER), ENTITY, "before", date(2023, 3, 15)),
    Both((LOCATION, ABBREVIATION)),
    Both((DESCRIPTION, NUMBER), NUMBER, "after", date(2023, 2, 1)),
    Both((HUMAN, DESCRIPTION)),
    Both((ENTITY, LOCATION), LOCATION, "after", date(2023, 4, 10)),
    Both((NUMBER, ABBREVIATION), ABBREVIATION, "before", date(2023, 5, 20)),
    OneAndOther(((ENTITY, _LEAST, 1), (ABBREVIATION, _LEAST, 1)), ((ENTITY, _EXACT, 1),)),
    OneAndOther(((NUMBER, _LEAST, 2),), ((LOCATION, _LEAST, 1), (HUMAN, _LEAST, 1))),
    OneAndOther(((DESCRIPTION, _EXACT, 1),), ((ABBREVIATION, _LEAST, 1), (ENTITY, _LEAST, 1))),
    OneAndOther(((HUMAN, _LEAST, 1), (NUMBER, _LEAST, 1)), ((LOCATION, _EXACT, 2),)),
    OneAndOther(
        ((ENTITY, _LEAST, 1), (LOCATION, _LEAST, 1), (ABBREVIATION, _LEAST, 1)),
        ((NUMBER, _EXACT, 1),),
    ),
    OneAndOther(
        ((DESCRIPTION, _LEAST, 1), (HUMAN, _LEAST, 1)),
        ((ENTITY, _LEAST, 2), (ABBREVIATION, _EXACT, 1)),
    ),
    OneAndOther(((NUMBER, _EXACT, 1),), ((LOCATION, _LEAST, 1), (DESCRIPTION, _LEAST, 1))),
    OneAndOther(
        ((ABBREVIATION, _LEAST, 1), (HUMAN, _EXACT, 1)), ((ENTITY, _LEAST, 1), (NUMBER, _LEAST, 1))
    ),
    OneAndOther(
        ((LOCATION, _LEAST, 2), (ENTITY, _LEAST, 1)),
        ((DESCRIPTION, _EXACT, 1), (ABBREVIATION, _EXACT, 1)),
    ),
    OneAndOther(
        ((NUMBER, _LEAST, 1), (HUMAN, _LEAST, 1)),
        ((LOCATION, _LEAST, 1), (ENTITY, _LEAST, 1), (ABBREVIATION, _EXACT, 1)),
    ),
)


def question_of(condition: Both | OneAndOther) -> str:
    """Returns the question for a condition."""
    return (
        f"List all pairs of user IDs (each pair once, lower ID first) {_wording(condition)}. Each of the questions has one of these "
        f"labels, which follow from its meaning: {', '.join(LABELS)}."
    )


def _wording(condition: Both | OneAndOther) -> str:
    if isinstance(condition, OneAndOther):
        return f"such that one user has {_part(condition.one)}, and the other user has {_part(condition.other)}"
    text = f"where both users have at least one line with '{condition.labels[0]}' or '{condition.labels[1]}'"
    if condition.side:
        day = f"{condition.day:%Y-%m-%d}"
        text += f", and all lines with '{condition.label}' of both users are {condition.side} {day}"
    return text


def _part(part: tuple[tuple[str, str, int], ...]) -> str:
    return " and ".join(
        f"{bound} {count} line{'s'[: count > 1]} with '{label}'" for label, bound, count in part
    )


def generate(
    draws: Draws, chars: int, n: int, users: int | None = None, conditions: Iterable[int] = ()
) -> Iterator[Item]:
    """Yields items: the conditions in order over one text, then again over another.

    Args:
        draws: The draws that decide on the texts.
        chars: The length of a text.
        n: The number of items.
        users: The number of users; None: a sixth of the lines, at most 262.
        conditions: The numbers of the conditions, from 1; none: all twenty.
    """
    numbers = tuple(conditions) or tuple(range(1, len(CONDITIONS) + 1))
    for at in range(n):
        round_, place = divmod(at, len(numbers))
        if place == 0:
            found = lines(draws.stream(round_), chars, users)
            context = text_of(found)
        number = numbers[place]
        pairs = pairs_of(CONDITIONS[number - 1], found)
        counts = {"lines": len(found), "pairs": len(pairs), **counts_of(found)}
        question = question_of(CONDITIONS[number - 1])
        yield Item(f"oolong-pairs-{round_}-condition-{number}", context, question, pairs, counts)


# ---- The first way: sets of users ----


def pairs_of(condition: Both | OneAndOther, found: Sequence[Line]) -> list[tuple[int, int]]:
    """Returns the pairs by the sets of users that satisfy each part."""
    if isinstance(condition, Both):
        return list(combinations(sorted(_users_of(condition, found)), 2))
    tallies: dict[int, Counter[str]] = {}
    for line in found:
        tallies.setdefault(line.user, Counter())[line.label] += 1
    one = {user for user, tally in tallies.items() if _satisfies(condition.one, tally)}
    other = {user for user, tally in tallies.items() if _satisfies(condition.other, tally)}
    pairs = {(min(a, b), max(a, b)) for a in one for b in other if a != b}
    return sorted(pairs)


def _users_of(condition: Both, found: Sequence[Line]) -> set[int]:
    having = {line.user for line in found if line.label in condition.labels}
    if condition.side == "after":
        return having - {
            x.user for x in found if x.label == condition.label and x.day <= condition.day
        }
    if condition.side == "before":
        return having - {
            x.user for x in found if x.label == condition.label and x.day >= condition.day
        }
    return having


def _satisfies(part: tuple[tuple[str, str, int], ...], tally: Mapping[str, int]) -> bool:
    return all(
        tally[label] == count if bound == _EXACT else tally[label] >= count
        for label, bound, count in part
    )


# ---- The second way: every pair of users, by the words of the question ----


def solve(context: str, question: str) -> list[tuple[int, int]]:
    """Returns the pairs by trying the wording of the question on every two users of the text."""
    by_user: dict[int, list[Line]] = {}
    for line in read(context):
        by_user.setdefault(line.user, []).append(line)
    wording = question.partition("lower ID first) ")[2].partition(". Each of the")[0]
    fits = _reading(wording)
    users = sorted(by_user)
    return [(a, b) for a, b in combinations(users, 2) if fits(by_user[a], by_user[b])]


_Fits = Callable[[list[Line], list[Line]], bool]


def _reading(wording: str) -> _Fits:
    if wording.startswith("such that"):
        one, other = wording.split(", and the other user has ")
        first, second = _bounds(one), _bounds(other)

        def fits_either_way(a: list[Line], b: list[Line]) -> bool:
            return (_holds(first, a) and _holds(second, b)) or (
                _holds(first, b) and _holds(second, a)
            )

        return fits_either_way
    having, _, dated = wording.partition(", and all lines with ")
    wanted = set(re.findall(r"'([^']+)'", having))
    limit = re.match(r"'([^']+)' of both users are (\w+) (\S+)", dated)

    def fits(found: list[Line]) -> bool:
        if not any(line.label in wanted for line in found):
            return False
        if limit is None:
            return True
        label, side, day = limit[1], limit[2], date.fromisoformat(limit[3])
        days = [line.day for line in found if line.label == label]
        return all(other > day if side == "after" else other < day for other in days)

    return lambda a, b: fits(a) and fits(b)


def _bounds(text: str) -> list[Any]:
    return re.findall(r"(at least|exactly) (\d) lines? with '([^']+)'", text)


def _holds(bounds: list[Any], found: list[Line]) -> bool:
    for bound, number, label in bounds:
        count = len([line for line in found if line.label == label])
        if count < int(number) or (bound == _EXACT and count > int(number)):
            return False
    return True
