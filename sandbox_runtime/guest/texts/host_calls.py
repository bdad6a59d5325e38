"""The way from the texts and directories of a cell to the host, which has them.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox_runtime.guest.values.handles import Handle

# No Python identifier, so that no tool of a user can have this name.
TEXT_CALL = "text.call"


class HostConnection:
    """The way to the host; the driver gives it anew before each cell."""

    ask: Callable[..., Any] | None = None
    used = False
    """True once there was a text."""


def connect(way: Callable[..., Any]) -> None:
    """Gives the function that asks the host."""
    HostConnection.ask = way


def ask(value: Handle, operation: str, *arguments: Any) -> Any:
    """What the host says of one of its texts or directories. Blocks."""
    if HostConnection.ask is None:
        raise RuntimeError("there is no host to ask")
    return HostConnection.ask(value, operation, *arguments)
