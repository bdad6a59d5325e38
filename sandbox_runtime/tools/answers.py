"""Encodes the outcome of a call for the cell that waits for it: a result, or an exception as the cell sees it."""

from __future__ import annotations

from typing import Any

from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.redaction.redact import redact_secrets
from sandbox_runtime.rpc.messages import Answer, ToolRaised, ToolReturned
from sandbox_runtime.rpc.sandbox_messages import ToolCall
from sandbox_runtime.tools.error_texts import error_text
from sandbox_runtime.truncation import MAX_NAME_CHARS, in_one_line, plain
from sandbox_runtime.values.encoder import ValueCodec, encode_inline

# A cell sees at most this much of a tool's exception.
MAX_ERROR_CHARS = 100_000

Outcome = tuple[bool, Any]
"""True and the result of a call, or False and its exception."""


def answer(border: ValueCodec, call: ToolCall, outcome: Outcome) -> Answer:
    """Encodes the outcome of one call. A result that cannot cross is an exception."""
    worked, result = outcome
    if not worked:
        return raised(call, result)
    try:
        return returned(border, call, result)
    except ValueCrossingError as error:
        return raised(call, error)


def returned(border: ValueCodec, call: ToolCall, result: object) -> ToolReturned:
    """Encodes a result.

    Raises:
        ValueCrossingError: It cannot cross.
    """
    inline = encode_inline(result)
    if inline is not None:
        return ToolReturned(call.id, "json", inline)
    kind, parts = border.encode(result, f"The result of {call.tool}()", plainly=True)
    return ToolReturned(call.id, kind, attachments=parts)


def answer_batch(border: ValueCodec, call: ToolCall, outcomes: list[Outcome]) -> Answer:
    """Encodes all outcomes as one value. A result that cannot cross fails only its own item."""
    label = f"The results of {call.tool}.batched()"
    items = [(True, item) if worked else (False, _error(item)) for worked, item in outcomes]
    try:
        kind, parts = border.encode(items, label, plainly=True)
    except ValueCrossingError:
        kind, parts = border.encode(
            [_crossing(border, label, at, *item) for at, item in enumerate(items)],
            label,
            plainly=True,
        )
    return ToolReturned(call.id, kind, attachments=parts)


def _crossing(border: ValueCodec, label: str, at: int, worked: bool, item: object) -> Outcome:
    """Returns the outcome of one item, which is an exception if its result cannot cross."""
    try:
        border.encode(item, f"{label}[{at}]", plainly=True)
    except ValueCrossingError as error:
        return False, _error(error)
    return worked, item


def raised(call: ToolCall, error: BaseException) -> ToolRaised:
    """Describes an exception for the cell."""
    description = _error(error)
    return ToolRaised(
        call.id, description["data"]["type"], description["data"]["base"], description["message"]
    )


def _error(error: BaseException) -> dict[str, Any]:
    """Returns the text of an exception, its name, and its nearest builtin base."""
    bases = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    text = error_text(error)
    name = in_one_line(redact_secrets(type(error).__name__), MAX_NAME_CHARS)
    data = {"type": name, "base": next(bases, "Exception")}
    return {"message": plain(redact_secrets(text), MAX_ERROR_CHARS), "data": data}
