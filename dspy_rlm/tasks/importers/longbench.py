"""LongBench v2, the questions about code repositories (https://huggingface.co/datasets/zai-org/LongBench-v2).

Columns: `_id`, `domain`, `sub_domain`, `question`, `choice_A` to `choice_D`, `answer` (a letter), `context`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.importers.rows import Row, field
from dspy_rlm.tasks.task import Form, Item

FORM = Form(
    Literal["A", "B", "C", "D"],
    "Choose the right answer to the question about the context.",
    "the letter of the right choice",
    scoring.exact_text,
    scoring.letter,
)
DOMAIN = "Code Repository Understanding"


def items(found: Iterable[Row]) -> Iterator[Item]:
    """Yields the rows of the domain as items; others are skipped."""
    for row in found:
        if field(row, "domain") != DOMAIN:
            continue
        choices = "\n".join(f"({letter}) {field(row, f'choice_{letter}')}" for letter in "ABCD")
        question = f"{field(row, 'question')}\n{choices}"
        yield Item(
            str(field(row, "_id")),
            str(field(row, "context")),
            question,
            str(field(row, "answer")).strip(),
        )
