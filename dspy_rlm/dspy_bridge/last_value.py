"""Returns the value of a cell's last expression, as DSPy's modules expect of an interpreter."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from sandbox_runtime import WrappedTool

# The name under which a session registers the tool. Cells do not see it.
NAME = "_dspy_rlm_last_value"

_MODULE = "dspy_rlm.repl.guest.last_value"


class LastValue:
    """The value of the last expression that cells reported, if any."""

    def __init__(self) -> None:
        self._values: list[Any] = []

    def tool(self) -> WrappedTool:
        """Returns the tool that a session registers as `NAME`."""
        source = (files("dspy_rlm.repl.guest") / "last_value.py").read_text("utf-8")
        return WrappedTool(self._tell, {_MODULE: source}, kind="display")

    def _tell(self, value: Any) -> None:
        """Stores the value of a cell's last expression."""
        self._values = [as_json(value)]

    def take(self) -> Any:
        """Returns the value and forgets it; None if there is no new one."""
        return self._values.pop() if self._values else None


def as_json(value: Any) -> Any:
    """Converts the value to JSON data, as DSPy's modules do: tuples and sets become lists.

    Raises:
        ValueError: JSON cannot represent it.
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
