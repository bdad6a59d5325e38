"""LongCoT: short problems whose solutions take many steps, so that code helps (https://arxiv.org/abs/2604.14140, MIT license).

Its files `data/DOMAIN/easy.json` are LongCoT-Mini. Fields of a question: `question_id`, `prompt`, `problem`, `answer`. Most problems of
logic and chess have no single answer and need LongCoT's own verifiers, so questions without an `answer` are skipped. There is no long
context: it is empty, and the question is the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from dspy_rlm.tasks.importers.rows import Row, field
from dspy_rlm.tasks.task import Form, Item

_SOLUTION = re.compile(r"solution ?=")
_QUOTES = re.compile(r"[\s'\"`]")


def solution(answer: Any, truth: Any) -> float:
    """1 if the text after "solution =" is the reference answer, without regard to spaces and quotes.

    LongCoT's own verifiers also accept equal expressions and molecules, and let a language model judge some; so this is a lower bound.
    https://github.com/LongHorizonReasoning/longcot
    """
    found = _SOLUTION.split(str(answer))[-1]
    return float(_bare(found) == _bare(truth))


def _bare(text: str) -> str:
    return _QUOTES.sub("", text).casefold()


FORM = Form(
    str,
    "Solve the problem. Write code for the steps instead of doing them in your head.",
    "the value that the problem wants after `solution =`",
    solution,
    solution,
)


def items(found: Iterable[Row]) -> Iterator[Item]:
    """Yields the questions that have a reference answer."""
    for row in found:
        answer = row.get("answer")
        if answer is None:
            continue
        text = answer if isinstance(answer, str) else json.dumps(answer)
        yield Item(str(field(row, "question_id")), "", str(field(row, "prompt")), text)
