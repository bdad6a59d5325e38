"""What the handles of a session stand for. `guest/values/handles.py` is the other side."""

from __future__ import annotations

import secrets
import threading

from sandbox_runtime.guest.values.handles import Handle

# The preview is for a prompt: a few words, not a document.
MAX_PREVIEW_CHARS = 200

# Numbers are drawn, not counted: one that a cell does not have it cannot guess. 53 bits are exact in
# every number of JSON.
NUMBER_BITS = 53


class Handles:
    """The values that stayed on the host, by number. Keeps them as long as it exists itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both: values and numbers grow together
        self._values: dict[int, object] = {}
        self._numbers: dict[int, int] = {}

    def pending(self) -> Pending:
        """Handles for one value on its way, which stand for nothing until it has all been encoded."""
        return Pending(self)

    def number_of(self, value: object) -> int | None:
        """The number that a value has already: the same object always has the same."""
        # By identity: equal values are not the same, and a value need not have a hash.
        return self._numbers.get(id(value))

    def add(self, values: dict[int, object]) -> None:
        """Takes the values by number."""
        with self._lock:
            for number, value in values.items():
                self._values[number] = value
                self._numbers.setdefault(id(value), number)

    def get(self, number: object) -> object:
        """The value that a handle stands for. Raises `ValueError` for a number that was never given."""
        if type(number) is not int or number not in self._values:
            raise ValueError("a handle stands for nothing")
        return self._values[number]


class Pending:
    """The handles in one value. If part of the value cannot cross, none of them was ever given."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self._values: dict[int, object] = {}
        self._numbers: dict[int, int] = {}

    def reduce(
        self, value: object, preview: str, kind: type[Handle] = Handle
    ) -> tuple[type[Handle], tuple[int, str, str]]:
        """What makes the handle of a value in the sandbox, of a class of its own if it has one."""
        shown = " ".join(preview.split())
        if len(shown) > MAX_PREVIEW_CHARS:
            shown = shown[: MAX_PREVIEW_CHARS - 3] + "..."
        return kind, (self._number(value), type(value).__name__, shown)

    def hand_out(self) -> None:
        """Lets the handles stand for their values."""
        if self._values:
            self._handles.add(self._values)

    def _number(self, value: object) -> int:
        known = self._handles.number_of(value)
        if known is None:
            known = self._numbers.get(id(value))
        if known is None:
            known = secrets.randbits(NUMBER_BITS)
            self._numbers[id(value)] = known
            self._values[known] = value
        return known
