"""Takes a call of a REPL's function apart: the texts that were sent for each prompt or row, and its reply."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dspy_rlm.prompts.contract import ERROR_MARK
from dspy_rlm.values.previews import fields_of

# The functions whose arguments are sent to sub-LMs.
SENDING = frozenset(
    {"sub_llm", "sub_llm_batched", "llm_query", "llm_query_batched", "predict", "predict_batched", "dspy"}
)  # fmt: skip

# Those whose arguments become the inputs of sub-runs, which are shown only what their cells print.
SUB_RUNS = frozenset(
    {"sub_rlm", "sub_rlm_batched", "rlm_query", "rlm_query_batched", "recursive_llm"}
)

_ROWS_AT = {
    "sub_llm_batched": 0,
    "llm_query_batched": 0,
    "rlm_query_batched": 0,
    "predict_batched": 1,
    "sub_rlm_batched": 1,
}
"""The position of the rows among the arguments of a batch."""

_MAX_DEPTH = 20


@dataclasses.dataclass(frozen=True)
class Sent:
    """One prompt, row or sub-run that was answered."""

    row: int | None
    """The row of a batch; None for a single call."""

    texts: Sequence[str]
    """The texts that were sent; those that all rows share are with the first."""

    reply: Any


def sent(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> list[Sent]:
    """Returns what a call has sent, without the rows of a batch that failed."""
    at = _ROWS_AT.get(name)
    rows = args[at] if at is not None and at < len(args) else None
    if not isinstance(rows, (list, tuple)) or not isinstance(result, (list, tuple)):
        return [Sent(None, list(texts_in([*args, *kwargs.values()])), result)]
    others = [value for number, value in enumerate(args) if number != at]
    shared = list(texts_in([*others, *kwargs.values()]))
    answered: list[Sent] = []
    for number, (row, reply) in enumerate(zip(rows, result, strict=False)):
        if not _is_failed(reply):
            texts = list(texts_in(row))
            answered.append(Sent(number, texts if answered else [*shared, *texts], reply))
    return answered


def _is_failed(reply: Any) -> bool:
    if isinstance(reply, str):
        return reply.startswith(ERROR_MARK)
    return type(reply).__name__ == "FailedRow"


def texts_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Yields the texts in a value."""
    if isinstance(value, str):
        yield value
    elif depth < _MAX_DEPTH and isinstance(value, Mapping):
        for part in value.values():
            yield from texts_in(part, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
        for part in value:
            yield from texts_in(part, depth + 1)
    elif depth < _MAX_DEPTH and (fields := fields_of(value)) is not None:
        for _, part in fields:
            yield from texts_in(part, depth + 1)
