"""The channels of a reply: its content, the reasoning channel, and tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dspy_rlm.replies.fences import fenced
from dspy_rlm.replies.objects import fields_of_value, is_python_tool, parsed_json


@dataclass(frozen=True)
class RawReply:
    """A reply as the LM's client returned it."""

    text: Any = ""
    """The content: text, None, a list of parts, or an object."""
    thoughts: str = ""
    """The text of the reasoning channel."""
    tool_calls: Sequence[Any] = ()
    is_cut: bool = False
    """True if the reply ended at its limit of tokens."""
    withheld: str = ""
    """The cause for which the LM gave no answer, or only a part: "filtered" or "refused"; empty for none."""


# Parts of a content that are nested deeper are no text.
_MAX_PARTS_DEPTH = 4


def content_text(value: Any, depth: int = 0) -> str:
    """Returns the text of a content that may be a list of parts or an object."""
    if isinstance(value, str):
        return value
    if depth > _MAX_PARTS_DEPTH:
        return ""
    if isinstance(value, Mapping):
        fields = fields_of_value(value)
        if fields is not None:
            code = f"[[ ## code ## ]]\n{fields.code}" if fields.code else ""
            return f"[[ ## reasoning ## ]]\n{fields.reasoning}\n\n{code}"
        found = value.get("text") or value.get("content") or value.get("value") or ""
        return content_text(found, depth + 1)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "\n".join(part for one in value if (part := content_text(one, depth + 1)))
    return ""


class CalledCode(NamedTuple):
    """The code of the tool calls of a reply."""

    text: str
    """The code of each call, in a block of its own; empty without any."""
    is_whole: bool
    """False if the arguments of the last call have no end."""


# The calls of one reply that are read.
_MAX_CALLS = 20


def code_of_calls(calls: Sequence[Any]) -> CalledCode:
    """Returns the code that the tool calls of a reply run."""
    found = [_code_of_call(call) for call in calls[:_MAX_CALLS]]
    blocks = [one.text if "```" in one.text else fenced(one.text) for one in found if one.text]
    return CalledCode("\n\n".join(blocks), all(one.is_whole for one in found))


# The name under which DSPy keeps arguments that are not JSON.
_UNPARSED = "partial_json"


def _code_of_call(call: Any) -> CalledCode:
    """Returns the code that a tool call asks to run, or a call of the function that it names."""
    function = _item(call, "function") or call
    name, arguments = str(_item(function, "name") or ""), _item(function, "arguments")
    if isinstance(arguments, Mapping) and isinstance(arguments.get(_UNPARSED), str):
        arguments = arguments[_UNPARSED]
    is_whole = True
    for _ in range(2):  # some servers encode the arguments twice
        if isinstance(arguments, str):
            value, is_json = parsed_json(arguments)
            is_whole = is_json and isinstance(value, str | Mapping)
            arguments = value if isinstance(value, str | Mapping) and value else arguments
    if isinstance(arguments, str):
        return CalledCode(arguments, is_whole)
    if not isinstance(arguments, Mapping):
        return CalledCode("", True)
    fields = fields_of_value(arguments)
    if fields is not None and fields.code:
        return CalledCode(fields.code, is_whole)
    if is_python_tool(name) and len(arguments) == 1:
        (only,) = arguments.values()
        return CalledCode(only if isinstance(only, str) else "", is_whole)
    if not name.isidentifier():
        return CalledCode("", True)
    listed = ", ".join(
        f"{key}={value!r}" for key, value in arguments.items() if str(key).isidentifier()
    )
    return CalledCode(f"{name}({listed})", is_whole)


def _item(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
