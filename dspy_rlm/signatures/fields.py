"""Reads the description, the constraints and the type of a signature's field."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspy_rlm.dspy_internals.signatures import IS_TYPE_UNDEFINED


def description_of(field: FieldInfo) -> str:
    """Returns the author's description of the field; empty if there is none."""
    text = str(_extra(field).get("desc") or "")
    # A field without a description has a placeholder from DSPy, such as `${answer}`.
    return "" if text.startswith("${") else text


def constraints_of(field: FieldInfo) -> str:
    """Returns the field's constraints in words, such as `greater than: 3`; empty if it has none."""
    return str(_extra(field).get("constraints") or "")


def notes_of(field: FieldInfo) -> str:
    """Returns the description and the constraints in one line."""
    return "; ".join(note for note in (description_of(field), constraints_of(field)) if note)


def has_type(field: FieldInfo) -> bool:
    """Returns False if the signature states no type, in which case DSPy assumes `str`."""
    return not _extra(field).get(IS_TYPE_UNDEFINED)


def defaults_of(fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Returns the value of every field that has a `default` or a `default_factory`.

    A factory that takes the other values gets those of the fields before it.
    """
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if field.default_factory is not None:
            values[name] = field.get_default(call_default_factory=True, validated_data=values)
        elif field.default is not PydanticUndefined:
            values[name] = field.default
    return values


def has_default(field: FieldInfo) -> bool:
    """Returns whether the field has a `default` or a `default_factory`."""
    return not field.is_required()


def may_be_missing(field: FieldInfo) -> bool:
    """Returns whether an output may be missing, as in DSPy's adapters: it has a default, or may be None."""
    return has_default(field) or _allows_none(field.annotation)


def fallbacks_of(fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Returns the value of every output that may be missing: its default, or None."""
    allowing = {name: None for name, field in fields.items() if _allows_none(field.annotation)}
    return {**allowing, **defaults_of(fields)}


def _allows_none(annotation: Any) -> bool:
    if annotation in (None, type(None)):
        return True
    origin = get_origin(annotation)
    if origin is Annotated:
        return _allows_none(get_args(annotation)[0])
    return origin in (Union, UnionType) and any(map(_allows_none, get_args(annotation)))


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
