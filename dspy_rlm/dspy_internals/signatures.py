"""DSPy's marker for fields without a type."""

from __future__ import annotations

from dspy.utils.constants import IS_TYPE_UNDEFINED

__all__ = ["IS_TYPE_UNDEFINED"]
