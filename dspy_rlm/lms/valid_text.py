"""Makes the text of a request valid Unicode, which providers require and DSPy checks.

A file that was read with `surrogateescape`, half of an emoji, or a reply in JSON can contain lone surrogates. All
requests of a run pass through here: prompts of the root LM, of sub-calls and of the extraction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


def valid_text(text: str) -> str:
    """Returns the text with lone surrogates escaped as in Python (`\\\\udce9`), and pairs of them joined."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return joined.encode("utf-8", "backslashreplace").decode()
    return text


def valid_arguments(prompt: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns the arguments of an LM call with all of their texts valid."""
    valid = {name: with_valid_text(value) for name, value in options.items()}
    messages = options.get("messages")
    if isinstance(messages, list) and valid["messages"] is not messages:
        # In place: DSPy recognizes the messages of its adapters by their identity.
        messages[:] = valid["messages"]
        valid["messages"] = messages
    return with_valid_text(prompt), valid


def with_valid_text(value: Any) -> Any:
    """Returns an argument of an LM call with all of its texts valid; the argument itself if they are."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, Mapping):
        valid = [(with_valid_text(key), with_valid_text(part)) for key, part in value.items()]
        is_same = all(
            new is key and other is part
            for (new, other), (key, part) in zip(valid, value.items(), strict=True)
        )
        return value if is_same else dict(valid)
    if isinstance(value, (list, tuple)):
        items = [with_valid_text(item) for item in value]
        if all(item is other for item, other in zip(items, value, strict=True)):
            return value
        return tuple(items) if isinstance(value, tuple) else items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        valid_fields = {name: with_valid_text(part) for name, part in fields.items()}
        changed = {name: part for name, part in valid_fields.items() if part is not fields[name]}
        copied: Any = value
        return dataclasses.replace(copied, **changed) if changed else value
    return value
