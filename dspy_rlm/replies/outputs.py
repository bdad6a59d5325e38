"""Reads outputs by name from a reply that DSPy's adapter could not parse as a whole.

Known formats: the sections of `ChatAdapter`, XML elements, a JSON object; with text around them, or cut off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dspy_rlm.replies.fences import FIELD
from dspy_rlm.values.bounded_parsing import check_repairable

# Strings, of which the last may be cut off, and the brackets outside of them.
_JSON_MARKS = re.compile(r'(?s)"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\]]')

# A text in a fence, as models wrap JSON and single values.
_FENCE = "```"


def read_outputs(reply: str, names: Collection[str]) -> dict[str, Any]:
    """Returns the outputs that the reply has, as text or as JSON values; without one that was cut off."""
    sections = {name: text for name, text in _sections(reply) if name in names and text}
    return sections or _elements(reply, names) or _json(reply, names)


def _sections(reply: str) -> Iterator[tuple[str, str]]:
    name, lines = "", list[str]()
    for line in reply.splitlines():
        match = FIELD.match(line)
        if match is None:
            lines.append(line)
            continue
        yield name, _unfenced("\n".join(lines))
        name, lines = match["name"], [line[match.end() :]]
    yield name, _unfenced("\n".join(lines))


def _unfenced(text: str) -> str:
    """Returns the text without spaces around it, and without a fence that is around all of it."""
    text = text.strip()
    first, _, rest = text.partition("\n")
    if not (first.startswith(_FENCE) and rest.rstrip().endswith(_FENCE)):
        return text
    inner = rest.rstrip().removesuffix(_FENCE)
    return text if _FENCE in inner else inner.strip()


def _elements(reply: str, names: Collection[str]) -> dict[str, str]:
    found = {}
    for name in names:
        _, opening, rest = reply.partition(f"<{name}>")
        text, closing, _ = rest.partition(f"</{name}>")
        if opening and closing:
            found[name] = text.strip()
    return found


def _json(reply: str, names: Collection[str]) -> dict[str, Any]:
    start = reply.find("{")
    if start < 0:
        return {}
    end = _end_of_object(reply, start)
    try:
        data = check_repairable(reply[start:end])
    except ValueError:
        return {}
    if not isinstance(data, Mapping):
        return {}
    complete = list(data.items())
    if end is None:
        complete = complete[:-1]  # perhaps there is only a part of the last value
    return {name: value for name, value in complete if name in names}


def _end_of_object(text: str, start: int) -> int | None:
    """Returns where the object that begins at `start` ends; None if it was cut off."""
    depth = 0
    for match in _JSON_MARKS.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return None
