"""Records: the outputs of a typed call as one value, with the fields as attributes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import dspy

from sandbox_runtime.helpers import annotation_text

# The types of the facts about a sub-run, in the record's class.
_FACTS: Mapping[str, Any] = {
    "status": str,
    "steps": int,
    "cost": float | None,
    "coverage": Any,
}


def as_record(
    signature: type[dspy.Signature],
    outputs: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> Any:
    """Returns the outputs as one record, with the fields as attributes.

    Args:
        signature: The fields.
        outputs: Their values.
        facts: Further attributes, those of a sub-run; an output of the same name takes precedence.
    """
    fields = tuple((name, field.annotation) for name, field in signature.output_fields.items())
    name = "Prediction"
    if facts:
        own = {fact: value for fact, value in facts.items() if fact not in outputs}
        fields = (*fields, *((fact, _FACTS[fact]) for fact in own))
        outputs, name = {**outputs, **own}, "SubRun"
    try:
        cls = _record_class(name, fields)
    except TypeError:  # a type that cannot be hashed
        cls = _record_class(name, tuple((field, annotation_text(note)) for field, note in fields))
    return cls(**outputs)


@functools.lru_cache(maxsize=256)
def _record_class(name: str, fields: tuple[tuple[str, Any], ...]) -> Any:
    cls = dataclasses.make_dataclass(name, list(fields))
    cls.__module__ = __name__
    return cls
