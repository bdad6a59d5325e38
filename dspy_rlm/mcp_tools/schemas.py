"""The JSON schema of a tool's arguments, read into a small part of JSON schema that is safe to check and to show.

A schema is untrusted: its references may form a circle or lead to another server, it may be huge or deep, and its
texts are shown in prompts. References are resolved within the schema, and only then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_rlm.mcp_tools.bounds import (
    MAX_NAME_CHARS,
    MAX_NOTE_CHARS,
    MAX_SCHEMA_DEPTH,
    MAX_SCHEMA_PARTS,
)
from dspy_rlm.mcp_tools.texts import is_safe, safe_text

_TYPES = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}

# Keywords with a number, those with a short text, and those with a list of schemas.
_AMOUNTS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
_TEXTS = ("format", "pattern")
_CHOICES = ("anyOf", "oneOf", "allOf")

# The characters of a default or of a member of an enumeration as JSON.
_MAX_VALUE_CHARS = 1_000
_MAX_MEMBERS = 500


def argument_schemas(schema: Any) -> dict[str, dict[str, Any]]:
    """Returns the schemas of a tool's arguments by name. An optional one has a default: None if it states none."""
    read = _Reader(schema)
    whole = read.schema(schema, 0)
    required = whole.get("required", ())
    return {
        name: facts if name in required or "default" in facts else {**facts, "default": None}
        for name, facts in whole.get("properties", {}).items()
    }


def returned_schema(schema: Any) -> dict[str, Any]:
    """Returns the schema of a tool's result; empty if it states none."""
    return _Reader(schema).schema(schema, 0) if isinstance(schema, Mapping) else {}


def type_of(schema: Mapping[str, Any]) -> Any:
    """Returns the Python type that a value of a schema is converted to; `Any` where several are possible."""
    kind = schema.get("type")
    plain = isinstance(kind, str) and "enum" not in schema and "const" not in schema
    return _TYPES.get(str(kind), Any) if plain else Any


class _Reader:
    """Reads one schema, with a bounded number of parts."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = MAX_SCHEMA_PARTS

    def schema(self, schema: Any, depth: int, seen: tuple[str, ...] = ()) -> dict[str, Any]:
        """Returns the known part of a schema; nothing of it, which allows any value, where it is too deep or too large."""
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > MAX_SCHEMA_DEPTH or self._left < 0:
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in seen:
                return {}
            target = self._target(reference)
            own = {key: value for key, value in schema.items() if key != "$ref"}
            merged = {**target, **own} if isinstance(target, Mapping) else own
            return self.schema(merged, depth + 1, (*seen, reference))
        found: dict[str, Any] = {}
        self._read_plain(schema, found)
        for key in _CHOICES:
            if isinstance(parts := schema.get(key), Sequence) and not isinstance(parts, str):
                found[key] = [self.schema(part, depth + 1, seen) for part in parts[:_MAX_MEMBERS]]
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            found["properties"] = {
                str(name): self.schema(part, depth + 1, seen)
                for name, part in properties.items()
                if self._left > 0 and is_safe(str(name), MAX_NAME_CHARS)
            }
            required = schema.get("required")
            if isinstance(required, Sequence):
                found["required"] = [name for name in found["properties"] if name in required]
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), Mapping):
                found[key] = self.schema(schema[key], depth + 1, seen)
        if schema.get("additionalProperties") is False:
            found["additionalProperties"] = False
        return found

    def _read_plain(self, schema: Mapping[str, Any], found: dict[str, Any]) -> None:
        kind = schema.get("type")
        if isinstance(kind, str) and kind in (*_TYPES, "null"):
            found["type"] = kind
        elif isinstance(kind, Sequence) and not isinstance(kind, str):
            known = [one for one in kind[:10] if isinstance(one, str) and one in (*_TYPES, "null")]
            if known:
                found["type"] = known
        if text := safe_text(schema.get("description"), MAX_NOTE_CHARS):
            found["description"] = text
        for key in _AMOUNTS:
            if type(schema.get(key)) in (int, float):
                found[key] = schema[key]
        if schema.get("uniqueItems") is True:
            found["uniqueItems"] = True
        for key in _TEXTS:
            if isinstance(value := schema.get(key), str) and is_safe(value, MAX_NAME_CHARS):
                found[key] = value
        members = schema.get("enum")
        if (
            isinstance(members, list)
            and 0 < len(members) <= _MAX_MEMBERS
            and all(map(_is_short, members))
        ):
            found["enum"] = list(members)
        for key in ("const", "default"):
            if key in schema and _is_short(schema[key]):
                found[key] = schema[key]

    def _target(self, reference: str) -> Any:
        """Returns the part of the schema that a reference such as `#/$defs/Item` names; None for any other."""
        place, *steps = reference.split("/")
        if place != "#" or len(steps) > MAX_SCHEMA_DEPTH:
            return None
        part = self._root
        for step in steps:
            key = step.replace("~1", "/").replace("~0", "~")
            part = part.get(key) if isinstance(part, Mapping) else None
        return part


def _is_short(value: Any) -> bool:
    """Returns whether a value is plain data that can be shown as it is."""
    if isinstance(value, str):
        return is_safe(value, _MAX_VALUE_CHARS)
    if value is None or isinstance(value, (bool, int, float)):
        return True
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return is_safe(text, _MAX_VALUE_CHARS)
