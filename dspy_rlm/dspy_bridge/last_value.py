"""Cells whose last expression comes back as a value, as DSPy's modules expect of an interpreter."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from sandbox_runtime import WrappedTool

# What a session registers the tool as. Cells do not see it.
NAME = "_dspy_rlm_last_value"

_MODULE = "dspy_rlm.repl.guest.last_value"


class LastValue:
    """The last value that cells told, if any."""

    def __init__(self) -> None:
        self._told: list[Any] = []

    def tool(self) -> WrappedTool:
        """What a session registers as `NAME`."""
        source = (files("dspy_rlm.repl.guest") / "last_value.py").read_text("utf-8")
        return WrappedTool(self._tell, {_MODULE: source}, kind="display")

    def _tell(self, value: Any) -> None:
        """Takes the value of a cell's last expression."""
        self._told = [as_json(value)]

    def take(self) -> Any:
        """The value since the last time; None if there was none."""
        return self._told.pop() if self._told else None


def as_json(value: Any) -> Any:
    """The value as JSON has it, which is what DSPy's modules make of it: tuples and sets are lists.

    Raises:
        ValueError: JSON has no form for it.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    try:
        return json.loads(json.dumps(value, default=_listed))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, (set, frozenset)):
        raise TypeError(f"no JSON for {type(value).__name__}")
    try:
        return sorted(value)
    except TypeError:
        return list(value)
