"""Text that can be sent: UTF-8 has no lone surrogates, which files with odd names and cut JSON bring into texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sendable(value: Any) -> Any:
    """Returns a prompt, messages or options with valid Unicode: the value itself if nothing has to change.

    Halves of one character that follow each other are joined; any other lone surrogate becomes U+FFFD.
    """
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, Mapping):
        changed = {sendable(name): sendable(item) for name, item in value.items()}
        same = all(map(_is_same, changed.values(), value.values()))
        return value if same and list(changed) == list(value) else changed
    if type(value) in (list, tuple):
        items = type(value)(map(sendable, value))
        return value if all(map(_is_same, items, value)) else items
    return value


def _is_same(one: object, other: object) -> bool:
    return one is other


def _valid(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
