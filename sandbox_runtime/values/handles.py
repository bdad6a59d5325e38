"""The table of values behind a session's handles. `guest/values/handles.py` is the other side."""

from __future__ import annotations

import secrets
import threading

from sandbox_runtime.guest.values.handles import Handle

# The preview is for a prompt: a few words, not a document.
MAX_PREVIEW_CHARS = 200

# Random numbers, so that a cell cannot guess another handle. 53 bits are exact in every JSON number.
NUMBER_BITS = 53


class Handles:
    """Values that stay on the host, by number. They are kept as long as this table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both dicts, which change together
        self._values: dict[int, object] = {}
        self._numbers: dict[int, int] = {}

    def __bool__(self) -> bool:
        """Returns whether there are any."""
        return bool(self._values)

    def pending(self) -> Pending:
        """Returns handles for one value being encoded; they become valid when all of it is encoded."""
        return Pending(self)

    def number_of(self, value: object) -> int | None:
        """Returns the number of a known value: the same object keeps its number."""
        # By identity: equal values are distinct, and a value need not be hashable.
        return self._numbers.get(id(value))

    def add(self, values: dict[int, object]) -> None:
        """Adds values by number."""
        with self._lock:
            for number, value in values.items():
                self._values[number] = value
                self._numbers.setdefault(id(value), number)

    def get(self, number: object) -> object:
        """Returns the value of a handle. Raises `ValueError` for an unknown number."""
        if type(number) is not int or number not in self._values:
            raise ValueError("the handle is not valid in this session")
        return self._values[number]


class Pending:
    """The handles in one value. If part of the value cannot cross, none of them becomes valid."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self._values: dict[int, object] = {}
        self._numbers: dict[int, int] = {}

    def reduce(
        self, value: object, preview: str, kind: type[Handle] = Handle
    ) -> tuple[type[Handle], tuple[int, str, str]]:
        """Returns the reduction that creates the handle in the sandbox, with a class of its own if it has one."""
        text = " ".join(preview.split())
        if len(text) > MAX_PREVIEW_CHARS:
            text = text[: MAX_PREVIEW_CHARS - 3] + "..."
        return kind, (self._number(value), type(value).__name__, text)

    def hand_out(self) -> None:
        """Makes the handles valid."""
        if self._values:
            self._handles.add(self._values)

    def _number(self, value: object) -> int:
        number = self._handles.number_of(value)
        if number is None:
            number = self._numbers.get(id(value))
        if number is None:
            number = secrets.randbits(NUMBER_BITS)
            self._numbers[id(value)] = number
            self._values[number] = value
        return number
