"""RULER, as its own `prepare.py` writes it (https://github.com/NVIDIA/RULER).

Columns: `index`, `input` (context and question in one prompt), `outputs` (the true texts), `length`. The question of RULER's prompts is their
last paragraph; the rest is the context. The question-answering tasks, for which one of the true texts is enough, are not imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dspy_rlm.errors import InputError
from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.importers.rows import Row, field
from dspy_rlm.tasks.task import Form, Item

FORM = Form(
    list[str],
    "Answer the question from the context.",
    "all values or words that the question asks for",
    scoring.same_set,
    scoring.ruler_all,
)


def items(found: Iterable[Row]) -> Iterator[Item]:
    """Yields the rows as items."""
    for number, row in enumerate(found):
        context, _, question = str(field(row, "input")).rstrip().rpartition("\n")
        if not context:
            raise InputError(
                f"The prompt of row {number + 1} has one line only, so its question cannot be told from its context."
            )
        outputs = sorted(map(str, field(row, "outputs")))
        yield Item(str(row.get("index", number)), context, question.strip(), outputs)
