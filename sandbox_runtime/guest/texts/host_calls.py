"""The connection from lazy texts and directories to the host, which stores them.

Runs inside the sandbox, so it uses only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox_runtime.guest.values.handles import Handle

# The lines about searches that one cell's output gets, and the longest of them.
MAX_NOTES = 8
MAX_NOTE_CHARS = 600

# Not a Python identifier, so that no user's tool can have this name.
TEXT_CALL = "text.call"


class HostConnection:
    """The connection to the host; the driver sets it again before each cell."""

    ask: Callable[..., Any] | None = None
    used = False
    """True once a text has been received."""
    searches: dict[tuple[str, str, str], int] = {}  # noqa: RUF012 - replaced before each cell
    """Incomplete searches of the running cell: the arguments of `note_search`, and how often they were equal."""


def connect(call: Callable[..., Any]) -> None:
    """Sets the function that calls the host, and forgets the searches of the last cell."""
    HostConnection.ask = call
    HostConnection.searches = {}


def note_search(what: str, advice: str, shown_as: str = "") -> None:
    """Notes that a search is not complete: the cell's output says so, also if the cell only counts the result.

    `shown_as` is the line by which the result itself says it, if it is printed.
    """
    notes, key = HostConnection.searches, (what, advice, shown_as)
    notes[key] = notes.get(key, 0) + 1


def search_notes(output: str) -> list[str]:
    """Returns the lines about incomplete searches that a cell's output lacks. A cell may have replaced anything."""
    notes = vars(HostConnection).get("searches")
    lines: list[str] = []
    for key, count in list(notes.items()) if type(notes) is dict else ():
        if type(key) is not tuple or len(key) != 3 or not all(type(part) is str for part in key):
            continue
        what, advice, shown_as = key
        many = type(count) is int and count > 1
        if many or not shown_as or shown_as not in output:
            times = f" in {count:,} searches" if many else ""
            lines.append(f"{what}{times}: {advice}"[:MAX_NOTE_CHARS])
    return lines[:MAX_NOTES]


def ask(value: Handle, operation: str, *arguments: Any) -> Any:
    """Runs an operation on one of the host's texts or directories. Blocks."""
    if HostConnection.ask is None:
        raise RuntimeError("there is no connection to the host")
    return HostConnection.ask(value, operation, *arguments)
