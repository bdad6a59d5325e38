"""DSPy's marker for fields without a type, and its search for the classes that a text signature names."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.utils.constants import IS_TYPE_UNDEFINED

__all__ = ["IS_TYPE_UNDEFINED", "classes_of_caller"]


def classes_of_caller(names: list[str]) -> dict[str, Any]:
    """Returns what these names are where the calling code was written, as far as they are known there.

    DSPy searches for the outermost names of types only: of `list[Quote]`, for `list`.
    """
    signature: Any = dspy.Signature
    text = ", ".join(f"field_{number}: {name}" for number, name in enumerate(names))
    found: dict[str, Any] | None = signature._detect_custom_types_from_caller(text)
    return found or {}
