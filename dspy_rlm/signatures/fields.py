"""What a field of a signature says of itself, as DSPy notes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from dspy_rlm.dspy_internals.signatures import IS_TYPE_UNDEFINED


def description_of(field: FieldInfo) -> str:
    """What the signature's author wrote on the field; empty if nothing."""
    text = str(_extra(field).get("desc") or "")
    # DSPy fills the description of a field without one with a placeholder.
    return "" if text.startswith("${") else text


def constraints_of(field: FieldInfo) -> str:
    """Its bounds in words, such as `greater than: 3`; empty if it has none."""
    return str(_extra(field).get("constraints") or "")


def notes_of(field: FieldInfo) -> str:
    """The description and the constraints in one line."""
    return "; ".join(note for note in (description_of(field), constraints_of(field)) if note)


def has_type(field: FieldInfo) -> bool:
    """False where the signature says no type, which DSPy then takes for a text."""
    return not _extra(field).get(IS_TYPE_UNDEFINED)


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
