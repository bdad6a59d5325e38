"""Finds the inputs that a cell assigns something else to: later cells then read that, and no longer the input."""

from __future__ import annotations

from collections.abc import Collection

from dspy_rlm.values.bound_names import bound_names


def overwritten_inputs(code: str, inputs: Collection[str]) -> list[str]:
    """Returns the inputs that the top level of a cell binds anew, in the order of the code."""
    return [name for name in bound_names(code) if name in inputs]
