"""Counting, user and timeline questions over unlabelled lines, after OOLONG.

Each answer is unique: a question whose answer would be a tie is drawn again.
https://arxiv.org/abs/2511.02817
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.labelled_lines import (
    LABELS,
    Line,
    counts_of,
    day_of,
    day_text,
    lines,
    read,
    text_of,
)
from dspy_rlm.tasks.task import Form, Item

_INSTRUCTIONS = (
    "Each line of the data is a question that a user asked on a date. The labels of the lines are not in the data: they follow from "
    "the meaning of each question. Answer the question about the lines."
)

COUNTING = Form(int, _INSTRUCTIONS, "the number of lines", scoring.same_number, scoring.oolong)
USERS = Form(int, _INSTRUCTIONS, "the ID of the user", scoring.same_number, scoring.oolong)
TIMELINE = Form(str, _INSTRUCTIONS, "the month, as YYYY-MM", scoring.same_text, scoring.oolong)

# A question, and its answer from the lines.
_Asked = tuple[str, Any]
_Ask = Callable[[Draws, Sequence[Line]], _Asked | None]


def counting(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items that ask how many lines have a label, or by how many one label leads another."""
    return _items("oolong-counting", _ask_count, draws, chars, n)


def users(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items that ask which user has the most lines with a label."""
    return _items("oolong-users", _ask_user, draws, chars, n)


def timeline(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items that ask in which month a label is most frequent."""
    return _items("oolong-timeline", _ask_month, draws, chars, n)


def _items(name: str, ask: _Ask, draws: Draws, chars: int, n: int) -> Iterator[Item]:
    for at in range(n):
        own = draws.stream(at)
        for attempt in range(100):
            found = lines(own.stream("lines", attempt), chars)
            asked = ask(own, found)
            if asked is not None:
                question, answer = asked
                counts = {"lines": len(found), **counts_of(found)}
                yield Item(f"{name}-{at}", text_of(found), question, answer, counts)
                break
        else:
            raise AssertionError("every question about a hundred data sets has a tie")


_HOW_MANY = "How many lines should be labelled as '{label}'?"
_HOW_MANY_MORE = "By how many lines does '{more}' lead '{less}'?"
_SINCE = "How many lines from {day} on (that day included) should be labelled as '{label}'?"


def _ask_count(draws: Draws, found: Sequence[Line]) -> _Asked | None:
    counts = counts_of(found)
    kind = draws.below(3)
    if kind == 0:
        label = draws.choice(LABELS)
        return _HOW_MANY.format(label=label), counts[label]
    if kind == 1:
        one, other = draws.sample(LABELS, 2)
        less, more = sorted((one, other), key=lambda label: counts[label])
        return _HOW_MANY_MORE.format(more=more, less=less), counts[more] - counts[less]
    label, day = draws.choice(LABELS), draws.choice(found).day
    count = sum(line.label == label and line.day >= day for line in found)
    return (_SINCE.format(day=day_text(day), label=label), count) if count else None


_WHICH_USER = (
    "Which user has the most lines that should be labelled as '{label}'? Give the user's ID."
)


def _ask_user(draws: Draws, found: Sequence[Line]) -> _Asked | None:
    for label in draws.sample(LABELS, len(LABELS)):
        best = _single_best(Counter(line.user for line in found if line.label == label))
        if best is not None:
            return _WHICH_USER.format(label=label), best
    return None


_WHICH_MONTH = "In which month are there the most lines that should be labelled as '{label}'? Answer as YYYY-MM."


def _ask_month(draws: Draws, found: Sequence[Line]) -> _Asked | None:
    for label in draws.sample(LABELS, len(LABELS)):
        months = Counter(f"{line.day:%Y-%m}" for line in found if line.label == label)
        best = _single_best(months)
        if best is not None:
            return _WHICH_MONTH.format(label=label), best
    return None


def _single_best(counts: Counter[Any]) -> Any | None:
    """Returns the most frequent key; None if another one is as frequent."""
    ranked = counts.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def solve(context: str, question: str) -> Any:
    """Returns the answer by reading each line of the text and tallying in plain loops."""
    found = list(read(context))
    labels = re.findall(r"'([^']+)'", question)
    if question.startswith("By how many"):
        more, less = (sum(1 for line in found if line.label == label) for label in labels)
        return more - less
    (label,) = labels
    matching = [line for line in found if line.label == label]
    if question.startswith("Which user"):
        return _winner([line.user for line in matching])
    if question.startswith("In which month"):
        return _winner([line.day.isoformat()[:7] for line in matching])
    if " from " in question:
        (day,) = re.findall(r"from (\w{3} \d\d, \d{4}) on", question)
        matching = [line for line in matching if not line.day < day_of(day)]
    return len(matching)


def _winner(keys: list[Any]) -> Any:
    tally: dict[Any, int] = {}
    for key in keys:
        tally[key] = tally.get(key, 0) + 1
    return sorted(tally, key=lambda key: tally[key])[-1]
