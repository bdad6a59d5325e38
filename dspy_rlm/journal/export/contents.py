"""The contents of a journal for other formats: what is missing or is no JSON is replaced by a short text."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import CallRecord, RunRecord, ToolRecord, ValueRecord, read_text

# Stands for a text or a value that the journal refers to, and that is not beside it.
MISSING = "[not in the journal]"


def text_of(text: Any) -> str:
    """Returns a text."""
    try:
        return read_text(text)
    except MissingValueError:
        return MISSING


def value_of(run: RunRecord, value: ValueRecord | None) -> Any:
    """Returns a value as JSON data. A file is its path; a value that was not stored is its class."""
    if value is None:
        return None
    if value.kind == "not_stored":
        return f"[{value.type or 'a value'}, not stored]"
    try:
        plain = run.value(value)
        return to_jsonable_python(plain, fallback=repr, bytes_mode="base64", inf_nan_mode="strings")
    except (MissingValueError, ValueError):
        return MISSING


def values_of(run: RunRecord, values: Any) -> dict[str, Any]:
    """Returns values by name as JSON data."""
    return {name: value_of(run, value) for name, value in (values or {}).items()}


def arguments_of(run: RunRecord, tool: ToolRecord) -> dict[str, Any]:
    """Returns the arguments of a call by name; those without a name are `args`."""
    arguments = value_of(run, tool.arguments)
    match arguments:
        case [list(positional), dict(named)]:
            return {**({"args": positional} if positional else {}), **named}
        case None:
            return {}
    return {"arguments": arguments}


def messages_of(call: CallRecord) -> list[dict[str, Any]]:
    """Returns the messages of a prompt; none if a part of it is missing."""
    try:
        return call.prompt.messages()
    except MissingValueError:
        return []


def reply_of(call: CallRecord) -> str | None:
    """Returns the text of the first reply; None if there is no reply."""
    if not call.outputs:
        return None
    try:
        first = call.reply[0]
    except MissingValueError:
        return MISSING
    if isinstance(first, dict):
        first = first.get("text")
    return first if isinstance(first, str) else ("" if first is None else repr(first))


def content_text(content: Any) -> str:
    """Returns the texts of a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
