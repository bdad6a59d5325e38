"""OOLONG-Pairs: the twenty conditions of the paper over OOLONG's `trec_coarse` contexts (https://arxiv.org/abs/2512.24601).

The pairs are computed here, from the column `context_window_text_with_labels` of OOLONG's own file, as the paper says that it did. A file of
rows with `context`, `question` and `answer` (a list of pairs, or pairs in parentheses) is read as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from dspy_rlm.errors import InputError
from dspy_rlm.tasks.generators.labelled_lines import LABELS, Line, day_of
from dspy_rlm.tasks.generators.oolong_pairs import CONDITIONS, pairs_of, question_of
from dspy_rlm.tasks.importers.rows import Row, field
from dspy_rlm.tasks.task import Item

_PAIR = re.compile(r"\((\d{1,18}), ?(\d{1,18})\)")


def items(found: Iterable[Row]) -> Iterator[Item]:
    """Yields twenty items for each context of OOLONG's file, or an item for each row that has its pairs."""
    for number, row in enumerate(found):
        if "context_window_text_with_labels" in row:
            if row.get("dataset", "trec_coarse") == "trec_coarse":
                yield from _conditions(row, number)
            continue
        context = str(field(row, "context", "context_window_text"))
        pairs = _pairs(field(row, "answer"))
        yield Item(str(row.get("id", number)), context, str(field(row, "question")), pairs)


def _conditions(row: Row, number: int) -> Iterator[Item]:
    lines = list(_lines(row["context_window_text_with_labels"]))
    if not lines:
        raise InputError(f"Row {number + 1} has no labelled lines.")
    window = row.get("context_window_id", row.get("id", number))
    for at, condition in enumerate(CONDITIONS, 1):
        context = str(field(row, "context_window_text"))
        pairs = pairs_of(condition, lines)
        yield Item(f"{window}-condition-{at}", context, question_of(condition), pairs)


def _lines(text: str) -> Iterator[Line]:
    """Yields the labelled lines of a text."""
    for line in text.split("\n"):
        head, mark, label = line.rpartition(" || Label: ")
        day, _, rest = head.removeprefix("Date: ").partition(" || User: ")
        user, _, question = rest.partition(" || Instance: ")
        if mark and user.isdecimal():
            yield Line(day_of(day), int(user), question, _label(label.strip()))


def _label(text: str) -> str:
    if text not in LABELS:
        raise InputError(f"{text!r} is not a label of the split trec_coarse: {', '.join(LABELS)}.")
    return text


def _pairs(answer: Any) -> list[tuple[int, int]]:
    if isinstance(answer, str):
        answer = _PAIR.findall(answer)
    return sorted({(min(a, b), max(a, b)) for a, b in ((int(a), int(b)) for a, b in answer)})
