"""OOLONG-synth: questions that need the classification of every line (https://huggingface.co/datasets/oolongbench/oolong-synth).

Columns: `id`, `context_window_text`, `question`, `answer` (a list as text, such as `['spam']` or `[datetime.date(2023, 1, 6)]`),
`answer_type`. The typed answer is a text, since the types differ from row to row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from dspy_rlm.errors import InputError
from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.importers.rows import Row, field
from dspy_rlm.tasks.task import Form, Item
from dspy_rlm.values.python_text import literal

_NAME = re.compile(r"^(?:answer|label|user|date):", re.IGNORECASE)
_DATE = re.compile(r"datetime\.date\((\d{1,4}), ?(\d{1,2}), ?(\d{1,2})\)")


def same_answer(answer: Any, truth: Any) -> float:
    """1 if the answer is the true text, without regard to case and to a label such as "Answer:" before it."""
    wanted = truth.isoformat() if isinstance(truth, date) else str(truth)
    found = _NAME.sub("", str(answer).strip()).strip()
    return float(found.casefold() == wanted.casefold())


FORM = Form(
    str,
    "Answer the question about the lines of the data.",
    "the answer alone; a date as YYYY-MM-DD",
    same_answer,
    scoring.oolong,
)


def items(found: Iterable[Row]) -> Iterator[Item]:
    """Yields the rows as items."""
    for number, row in enumerate(found):
        context = str(field(row, "context_window_text"))
        name = str(row.get("id", number))
        yield Item(name, context, str(field(row, "question")), truth_of(field(row, "answer")))


def truth_of(text: Any) -> Any:
    """Returns the answer in a text such as `['spam']`, `[47]` or `[datetime.date(2023, 1, 6)]`."""
    if isinstance(text, list):
        return text[0]
    if day := _DATE.search(str(text)):
        return date(*map(int, day.groups()))
    try:
        found = literal(str(text))
    except (ValueError, SyntaxError) as error:
        raise InputError(f"This answer is not a list: {str(text)[:80]!r}") from error
    return found[0] if isinstance(found, list) and found else found
