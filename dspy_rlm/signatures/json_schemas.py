"""Reads the JSON schema of a tool's arguments, as MCP and LangChain tools have it, as Python parameters."""

from __future__ import annotations

import inspect
import keyword
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from sandbox_runtime.helpers import SignatureText

Parameter = inspect.Parameter

# The members of an enumeration, the levels of nested objects and the characters of a note that are shown.
_MAX_CHOICES = 30
_MAX_DEPTH = 4
_MAX_NOTE_CHARS = 1_000

_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
}

# The constraints that a note states.
_BOUNDS = (
    *("format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
)


# The default of an optional argument whose schema states no value: it is then left out.
OMITTED = SignatureText("...")


# The longest part of a name that is kept as the name of an argument.
MAX_NAME_CHARS = 500


def python_name(name: str) -> str:
    """Returns the name with what a Python name cannot have replaced; it may still be none."""
    # Bounded: normalizing a long run of combining marks takes quadratic time.
    text = unicodedata.normalize("NFKC", name[:MAX_NAME_CHARS]).strip()
    clean = "".join(char if f"a{char}".isidentifier() else "_" for char in text)
    return f"{clean}_" if keyword.iskeyword(clean) else clean


def parameters_of(
    properties: Mapping[str, Any], required: Collection[str]
) -> tuple[list[Parameter], dict[str, str], dict[str, str]]:
    """Returns the parameters of a schema's properties, the required ones first.

    Returns:
        The parameters; their notes by name; and the properties' own names, for those that are no Python names.
    """
    parameters, notes, own_names = [], {}, {}
    used: set[str] = set()
    for own in sorted(properties, key=lambda name: name not in required):
        schema = properties[own] if isinstance(properties[own], Mapping) else {}
        name = python_name(own)
        if not name.isidentifier():
            name = f"arg_{name}"
        while name in used:
            name += "_"
        used.add(name)
        default = Parameter.empty if own in required else schema.get("default", OMITTED)
        text = type_text(schema)
        if default is None and not {"None", "Any"} & set(text.split(" | ")):
            default = OMITTED  # the conversion marks optional arguments so
        parameters.append(
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD,
                annotation=SignatureText(text),
                default=default,
            )
        )
        if note := note_of(schema):
            notes[name] = note
        if name != own:
            own_names[name] = own
    return parameters, notes, own_names


def type_text(schema: Any, depth: int = 0) -> str:
    """Returns the Python type of a JSON schema, as text."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return "Any"
    if "const" in schema:
        return f"Literal[{schema['const']!r}]"
    choices = schema.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= _MAX_CHOICES:
        return f"Literal[{', '.join(map(repr, choices))}]"
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(parts := schema.get(key), list) and parts:
            return _union(type_text(part, depth + 1) for part in parts)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _union(type_text({**schema, "type": one}, depth + 1) for one in kind)
    text = _TYPES.get(kind, "Any") if isinstance(kind, str) else "Any"
    if text == "list" and isinstance(items := schema.get("items"), Mapping):
        return f"list[{type_text(items, depth + 1)}]"
    values = schema.get("additionalProperties")
    if text == "dict" and isinstance(values, Mapping) and values and not schema.get("properties"):
        return f"dict[str, {type_text(values, depth + 1)}]"
    return text


def _union(texts: Any) -> str:
    return " | ".join(sorted(dict.fromkeys(texts), key=lambda text: text == "None")) or "Any"


def note_of(schema: Any) -> str:
    """Returns the description, the constraints and the keys of a schema, as text; empty if it has none."""
    bounds = [
        f"{key} {schema[key]}"
        for key in _BOUNDS
        if schema.get(key) is not None and schema[key] is not False
    ]
    parts = [str(schema.get("description") or "").strip(), ", ".join(bounds), _keys_text(schema, 0)]
    text = "; ".join(part.rstrip(".") if at < 2 else part for at, part in enumerate(parts) if part)
    return text if len(text) <= _MAX_NOTE_CHARS else f"{text[:_MAX_NOTE_CHARS]} ..."


def _keys_text(schema: Any, depth: int) -> str:
    """Returns the keys of the objects in a schema with their types."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return ""
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and properties:
        required = schema.get("required") or ()
        return f"keys: {', '.join(_key_text(n, s, n in required, depth) for n, s in properties.items())}"
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(parts := schema.get(key), list):
            texts = filter(None, (_keys_text(part, depth + 1) for part in parts))
            return " or ".join(texts)
    return _keys_text(schema.get("items") or schema.get("additionalProperties"), depth + 1)


def _key_text(name: str, schema: Any, is_required: bool, depth: int) -> str:
    facts = schema if isinstance(schema, Mapping) else {}
    text = f"{name}: {type_text(facts)}"
    if not is_required:
        text += f" = {facts['default']!r}" if "default" in facts else " (optional)"
    inner = _keys_text(facts, depth + 1)
    more = "; ".join(filter(None, (str(facts.get("description") or ""), inner)))
    return f"{text} ({more})" if more else text
