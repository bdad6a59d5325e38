"""The connection from lazy texts and directories to the host, which stores them.

Runs inside the sandbox, so it uses only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox_runtime.guest.values.handles import Handle

# Not a Python identifier, so that no user's tool can have this name.
TEXT_CALL = "text.call"


class HostConnection:
    """The connection to the host; the driver sets it again before each cell."""

    ask: Callable[..., Any] | None = None
    used = False
    """True once a text has been received."""


def connect(call: Callable[..., Any]) -> None:
    """Sets the function that calls the host."""
    HostConnection.ask = call


def ask(value: Handle, operation: str, *arguments: Any) -> Any:
    """Runs an operation on one of the host's texts or directories. Blocks."""
    if HostConnection.ask is None:
        raise RuntimeError("there is no connection to the host")
    return HostConnection.ask(value, operation, *arguments)
