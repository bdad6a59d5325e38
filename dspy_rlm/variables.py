"""Typed inputs as variables of the REPL: what the LM is told of each before it looks.

Only names, types, sizes and previews ever enter a prompt. Made without copying or walking the value.
"""

from __future__ import annotations

import dataclasses
import reprlib
import sys
from collections.abc import Iterable, Mapping, Sized
from typing import Any, ForwardRef, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

# Enough to recognise a format (a log line, a CSV header, a record); the rest is for code to look at.
PREVIEW_CHARS = 1000

# Fields of records that are spelled out: more would be a document, not a description.
MAX_RECORD_FIELDS = 40


@dataclasses.dataclass(frozen=True)
class Variable:
    """What the LM is told of one input."""

    name: str
    type_name: str
    size: str
    preview: str
    description: str = ""
    constraints: str = ""
    fields: str = ""
    """The attributes of a record with their types; empty for other values."""

    def render(self) -> str:
        """The text for the prompt."""
        lines = [f"Variable: `{self.name}` (access it in your code)", f"Type: {self.type_name}"]
        lines += [f"Record fields: {self.fields}"] if self.fields else []
        lines += [f"Description: {self.description}"] if self.description else []
        lines += [f"Constraints: {self.constraints}"] if self.constraints else []
        lines += [f"Size: {self.size}"] if self.size else []
        return "\n".join([*lines, "Preview:", "```", self.preview, "```"])


def describe(name: str, value: object, field: FieldInfo) -> Variable:
    """The description of an input value, from itself and from its field in the signature."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    description = str(extra.get("desc") or "")
    return Variable(
        name=name,
        type_name=type_name(value),
        size=_size(value),
        preview=preview(value),
        # DSPy fills the description of a field without one with a placeholder.
        description="" if description.startswith("${") else description,
        constraints=str(extra.get("constraints") or ""),
        fields=_record_fields(value),
    )


def render_variables(variables: Iterable[Variable]) -> str:
    """All descriptions, one after the other."""
    return "\n\n".join(variable.render() for variable in variables)


def preview(value: object, limit: int = PREVIEW_CHARS) -> str:
    """The beginning and the end of a value as text."""
    if isinstance(value, str):
        return str(_ends(value, limit, "..."))
    if isinstance(value, (bytes, bytearray)):
        return repr(_ends(bytes(value), limit // 4, b"..."))
    return short_repr(value, limit)


def short_repr(value: object, limit: int) -> str:
    """A value as Python writes it, for an error message."""
    return str(_ends(_abridging_repr.repr(value), limit, "..."))


def _ends(text: Any, limit: int, gap: Any) -> Any:
    half = limit // 2
    return text if len(text) <= limit else text[:half] + gap + text[-half:]


class _AbridgingRepr(reprlib.Repr):
    """Shows a few elements of each container, so that a large one costs no more than a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 6
        self.maxdeque = self.maxarray = 6
        self.maxstring = 160
        self.maxlong = 80
        self.maxother = 300

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        """Like the inherited method, but in the dict's own order: sorting a large one takes long."""
        if level <= 0:
            return "{...}"
        shown: list[str] = []
        for key, item in value.items():
            if len(shown) == self.maxdict:
                shown.append("...")
                break
            shown.append(f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}")
        return "{" + ", ".join(shown) + "}"


_abridging_repr = _AbridgingRepr()


def type_name(value: object) -> str:
    """The type of a value with that of its first element: `dict[str, list]`."""
    name = type(value).__name__
    if isinstance(value, Mapping) and value:
        key, item = next(iter(value.items()))
        return f"{name}[{type(key).__name__}, {type(item).__name__}]"
    if isinstance(value, (list, tuple, set, frozenset)) and value and not hasattr(value, "_fields"):
        return f"{name}[{type(next(iter(value))).__name__}]"
    return name


def _size(value: object) -> str:
    if isinstance(value, str):
        return f"{len(value):,} characters"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value):,} bytes"
    if not isinstance(value, Sized) or isinstance(value, BaseModel):
        return ""
    # A sum of lengths is cheap, and says more of a table of texts than the number of its rows.
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, Iterable) and len(value) and all(isinstance(item, str) for item in items):
        return f"{len(value):,} items, {sum(map(len, items)):,} characters of text"
    return f"{len(value):,} items"


def _record_fields(value: object) -> str:
    """The attributes of a record, or of the records that a list or dict starts with."""
    kind = type(value)
    if isinstance(value, Mapping) and value:
        kind = type(next(iter(value.values())))
    elif isinstance(value, (list, tuple)) and value and not hasattr(value, "_fields"):
        kind = type(value[0])
    types = _annotations(kind)
    shown = [f"{name}: {annotation_text(note)}" for name, note in types.items()][:MAX_RECORD_FIELDS]
    return f"{kind.__name__}({', '.join(shown)})" if shown else ""


def _annotations(kind: type) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        return {field.name: field.type for field in dataclasses.fields(kind)}
    if hasattr(kind, "_fields"):
        notes = getattr(kind, "__annotations__", {})
        return {name: notes.get(name, Any) for name in kind._fields}
    return {}


def annotation_text(annotation: Any) -> str:
    """A type as one writes it: `list[int]`, `datetime.date | None`."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, (str, ForwardRef)):
        return annotation if isinstance(annotation, str) else annotation.__forward_arg__
    if get_origin(annotation) is not None or not isinstance(annotation, type):
        return str(annotation).replace("typing.", "")
    module = annotation.__module__
    shown = (
        module not in ("builtins", "typing") and module.partition(".")[0] in sys.stdlib_module_names
    )
    return f"{module}.{annotation.__qualname__}" if shown else annotation.__qualname__
