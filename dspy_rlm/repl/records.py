"""Records: the outputs of a typed call as one value, with the fields as attributes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import dspy

from sandbox_runtime.helpers import annotation_text


def as_record(signature: type[dspy.Signature], outputs: Mapping[str, Any], status: str = "") -> Any:
    """Returns the outputs as one record, with the fields as attributes.

    Args:
        signature: The fields.
        outputs: Their values.
        status: Another attribute, unless the signature has an output of that name.
    """
    fields = tuple((name, field.annotation) for name, field in signature.output_fields.items())
    name = "Prediction"
    if status and "status" not in outputs:
        fields, outputs, name = (*fields, ("status", str)), {**outputs, "status": status}, "SubRun"
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
