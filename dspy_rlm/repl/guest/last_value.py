"""The value of a cell's last expression, told to the host where it can cross.

Runs inside the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def front(name: str, call: Any) -> Callable[[Any], Any]:
    """What a cell's last value is handed to. It gives back what the host cannot have, to be shown."""

    def told(value: Any) -> Any:
        try:
            call(value)
        except Exception:  # noqa: BLE001 - whatever it was, the value is then shown as text
            return value
        return None

    return told
