"""What the handles of a session stand for. `deno/handles.py` is the other side."""

from __future__ import annotations

import threading

from sandbox_runtime.deno.handles import Handle

# The preview is for a prompt: a few words, not a document.
MAX_PREVIEW_CHARS = 200


class Handles:
    """The values that stayed on the host, by number. Keeps them as long as it exists itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both: values and numbers grow together
        self._values: list[object] = []
        self._numbers: dict[int, int] = {}

    def hold(self, value: object) -> int:
        """The number of a value: the same object always has the same."""
        # By identity: equal values are not the same, and a value need not have a hash.
        with self._lock:
            number = self._numbers.setdefault(id(value), len(self._values))
            if number == len(self._values):
                self._values.append(value)
            return number

    def reduce(
        self, value: object, preview: str, kind: type[Handle] = Handle
    ) -> tuple[type[Handle], tuple[int, str, str]]:
        """What makes the handle of a value in the sandbox, of a class of its own if it has one."""
        shown = " ".join(preview.split())
        if len(shown) > MAX_PREVIEW_CHARS:
            shown = shown[: MAX_PREVIEW_CHARS - 3] + "..."
        return kind, (self.hold(value), type(value).__name__, shown)

    def get(self, number: object) -> object:
        """The value that a handle stands for. Raises `ValueError` for a number that was never given."""
        if type(number) is not int or not 0 <= number < len(self._values):
            raise ValueError("a handle stands for nothing")
        return self._values[number]
