"""The `Sandbox` protocol and the outcomes of a cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

HostTool = Callable[..., Any]
"""A Python function of the host that cells can call.

A plain call runs in the thread that runs the cell. Calls by `aio` and `batched`, and all calls under
`Limits.call_seconds`, run in threads of their own; a coroutine function runs on an event loop.
"""


FrontKind: TypeAlias = Literal["function", "module", "display"]


@dataclasses.dataclass(frozen=True)
class WrappedTool:
    """A host tool with Python of its own in the sandbox, between a cell and the function."""

    function: HostTool
    """The function that a call finally reaches."""

    modules: Mapping[str, str]
    """Modules of the sandbox by name, with their source; each may import those before it. The last one
    has a function `front(name, call)`, which wraps the plain function `call` for cells."""

    kind: FrontKind = "function"
    """The kind of object bound to the tool's name: a function; a module, which they can import; or nothing: the
    function then receives the value of a cell's last expression and returns the text to show."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function directly, without a sandbox."""
        return self.function(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class OwnLines:
    """The parts of a cell's output that the harness wrote, in characters. A cell cannot print them."""

    head: int = 0
    """The notice of the host about a sandbox that was started again, at the beginning."""

    tail: int = 0
    """The lines at the end: work that was cancelled, names that the cell rebound, results that are not complete.

    The sandbox states their length, and a cell that has broken out of Python could make it lie; check what they say."""


@dataclasses.dataclass(frozen=True)
class Completed:
    """The cell ran to its end."""

    output: str
    """Its printed output and the value of its last expression; abridged to `Limits.output_chars`."""

    state_lost: bool = False
    """True if the definitions of earlier cells were lost before this one; assigned variables are back."""

    own: OwnLines = OwnLines()
    """The harness's own lines in `output`; the same in the other outcomes."""


@dataclasses.dataclass(frozen=True)
class Submitted:
    """The cell called SUBMIT."""

    outputs: dict[str, Any]
    """The submitted values by field, decoded from data and not yet validated."""

    output: str = ""
    """The output printed before."""

    state_lost: bool = False
    """See `Completed`."""

    own: OwnLines = OwnLines()
    """See `Completed`."""


@dataclasses.dataclass(frozen=True)
class Failed:
    """The cell raised, or ended its process."""

    error_type: str
    """The name of the exception class."""

    message: str
    """The exception's text."""

    traceback: str = ""
    """The traceback with the cell's own lines only; empty if the process ended."""

    output: str = ""
    """The output printed before."""

    state_lost: bool = False
    """True if the definitions of cells are lost; assigned variables are back."""

    own: OwnLines = OwnLines()
    """See `Completed`."""


CellResult = Completed | Submitted | Failed
"""The outcome of a cell, for `match` or `isinstance`. What a cell does is data: none of these is an exception."""


class Sandbox(Protocol):
    """A namespace that persists, and runs untrusted Python."""

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """Binds variables, once: later changes by cells persist."""

    def run_cell(self, code: str, /) -> CellResult:
        """Runs a cell to its end. A failed cell is data; a dead sandbox is an exception."""

    def close(self) -> None:
        """Ends the sandbox. Idempotent."""
