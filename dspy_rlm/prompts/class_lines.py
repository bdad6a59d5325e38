"""Describes the classes that cells can use by name, each in one line: fields with types, defaults and constraints."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from itertools import islice
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import NAME_CHARS, TYPE_CHARS, name_of, short_repr
from sandbox_runtime.helpers import annotation_text, classes_in, field_types, in_one_line

# The fields of a class that are listed: more would be a document, not a description.
MAX_FIELDS = 40

# The longest default, constraint and description of one field.
MAX_NOTE_CHARS = 120

_EMPTY_FACTORIES: dict[Any, str] = {list: "[]", dict: "{}", set: "set()", tuple: "()"}

# The constraints of Pydantic's metadata, as code writes them.
_BOUNDS = {"ge": ">= ", "gt": "> ", "le": "<= ", "lt": "< ", "multiple_of": "multiple of "}
_LENGTHS = {"min_length": "at least", "max_length": "at most"}


def class_lines(annotations: Iterable[Any], rules: TypeRules) -> list[str]:
    """Returns a line for each record class and enum in some types, with its fields or members."""
    others = tuple(rule.cls for rule in rules)
    records = [cls for cls in classes_in(*annotations) if not issubclass(cls, others)]
    return list(dict.fromkeys(line for line in map(_class_line, records) if line))


def _class_line(cls: Any) -> str:
    if issubclass(cls, enum.Enum):
        parts = [
            f"{in_one_line(member.name, NAME_CHARS)}={short_repr(member.value, 80)}"
            for member in islice(cls, MAX_FIELDS)
        ]
        return f"enum {name_of(cls)}({', '.join(parts)})"
    facts = _fields(cls)
    parts = [
        f"{in_one_line(name, NAME_CHARS)}: {in_one_line(annotation_text(note), TYPE_CHARS)}"
        f"{facts.get(name, '')}"
        for name, note in islice(field_types(cls).items(), MAX_FIELDS)
    ]
    return f"{name_of(cls)}({', '.join(parts)})" if parts else ""


def _fields(cls: Any) -> dict[str, str]:
    """Returns for each field what follows its type: its default, its constraints and its description."""
    if isinstance(models := getattr(cls, "model_fields", None), dict):
        return {name: _of_model(field) for name, field in models.items()}
    if dataclasses.is_dataclass(cls):
        return {field.name: _of_dataclass(field) for field in dataclasses.fields(cls)}
    defaults = getattr(cls, "_field_defaults", None)
    if isinstance(defaults, dict):  # a named tuple
        return {name: f" = {_shown(value)}" for name, value in defaults.items()}
    if hasattr(cls, "__required_keys__"):
        return dict.fromkeys(getattr(cls, "__optional_keys__", ()), " (optional)")
    return {}


def _of_model(field: FieldInfo) -> str:
    if field.default_factory is not None:
        default = f" = {_EMPTY_FACTORIES.get(field.default_factory, '...')}"
    else:
        is_required = field.default is PydanticUndefined
        default = "" if is_required else f" = {_shown(field.default)}"
    notes = [*_constraints(field.metadata), field.description or ""]
    return f"{default}{_bracketed(notes)}"


def _of_dataclass(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata.get("desc") or field.metadata.get("description") or "")
    if field.default_factory is not dataclasses.MISSING:
        default = f" = {_EMPTY_FACTORIES.get(field.default_factory, '...')}"
    elif field.default is not dataclasses.MISSING:
        default = f" = {_shown(field.default)}"
    else:
        default = ""
    return f"{default}{_bracketed([text])}"


def _constraints(metadata: Iterable[Any]) -> list[str]:
    """Returns constraints in words: `>= 0`, `at most 5 long`, `matches '^[A-Z]+$'`."""
    notes: list[str] = []
    for note in metadata:
        bounds = {name: getattr(note, name, None) for name in (*_BOUNDS, *_LENGTHS, "pattern")}
        notes += [
            f"{sign}{_shown(bounds[name])}"
            for name, sign in _BOUNDS.items()
            if bounds[name] is not None
        ]
        notes += [
            f"{word} {_shown(bounds[name])} long"
            for name, word in _LENGTHS.items()
            if bounds[name] is not None
        ]
        if bounds["pattern"] is not None:
            notes.append(
                f"matches {_shown(getattr(bounds['pattern'], 'pattern', bounds['pattern']))}"
            )
    return notes


def _bracketed(notes: Iterable[str]) -> str:
    text = "; ".join(in_one_line(" ".join(note.split()), MAX_NOTE_CHARS) for note in notes if note)
    return f" ({text})" if text else ""


def _shown(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return f"{name_of(type(value))}.{value.name}"
    return short_repr(value, MAX_NOTE_CHARS)
