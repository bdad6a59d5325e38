"""JSON data as it is in a journal: without secrets, long texts by reference, and prompts by what is new in them.

In a journal, an object with a key that begins with `$` is one of these:

    {"$value": sha256, "chars": n}          a long text, beside the journal
    {"$from": [head, tail], "new": text}    the text at the same place of the prompt before, with a part replaced
    {"$json": text}                         an object of the data itself that has such a key
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.lines import dumped, loaded
from dspy_rlm.journal.records import Reader, Ref
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.journal.values import INLINE_CHARS, ValueWriter, encoded

# A text is stored as a change of the one before if so many of its characters are the same.
LEAST_COMMON_CHARS = 200

# Nothing that is recorded is nested deeper. A journal of unknown origin may be.
MAX_DEPTH = 100


class Packer:
    """Prepares data for a journal. Safe to use from any thread."""

    def __init__(self, values: ValueWriter, secrets: KnownSecrets) -> None:
        self.secrets = secrets
        self._values = values
        self._journal = values.journal

    def text(self, text: str) -> Any:
        """Returns a text, or the reference to it."""
        return self._stored(self.secrets.clean(text))

    def _stored(self, clean: str) -> Any:
        if len(clean) <= INLINE_CHARS:
            return clean
        try:
            return {"$value": self._values.put(encoded(clean)), "chars": len(clean)}
        except OSError as error:
            self._journal.fail(error)
            return clean

    def data(self, data: bytes) -> str:
        """Stores bytes, and returns their digest. Raises `OSError` if they cannot be written."""
        return self._values.put(data)

    def json(self, value: Any, before: Any = None) -> tuple[Any, Any]:
        """Returns JSON data as it is in a journal, and the same data without secrets.

        Args:
            value: The data.
            before: Such data without secrets. Texts at the same places become changes of these.
        """
        if isinstance(value, str):
            return self._changed(value, before) if isinstance(before, str) else self._whole(value)
        if isinstance(value, dict):
            old = before if isinstance(before, dict) else {}
            pairs = {str(key): self.json(part, old.get(key)) for key, part in value.items()}
            clean = {key: pair[1] for key, pair in pairs.items()}
            if any(key.startswith("$") for key in pairs):
                return {"$json": self.text(dumped(clean).decode())}, clean
            return {key: pair[0] for key, pair in pairs.items()}, clean
        if isinstance(value, (list, tuple)):
            olds = before if isinstance(before, list) else []
            items = [
                self.json(part, olds[at] if at < len(olds) else None)
                for at, part in enumerate(value)
            ]
            return [item[0] for item in items], [item[1] for item in items]
        return value, value

    def _whole(self, text: str) -> tuple[Any, str]:
        clean = self.secrets.clean(text)
        return self._stored(clean), clean

    def _changed(self, text: str, before: str) -> tuple[Any, str]:
        head, tail = common_ends(before, text)
        if head + tail < LEAST_COMMON_CHARS:
            return self._whole(text)
        clean = self.secrets.clean_changed(text, head, tail)
        if clean is not text:
            head, tail = common_ends(before, clean)
        new = self._stored(clean[head : len(clean) - tail])
        return {"$from": [head, tail], "new": new}, clean


def common_ends(one: str, other: str) -> tuple[int, int]:
    """Returns the number of equal characters at the beginning of two texts, and of those at the end of the rest."""
    most = min(len(one), len(other))
    head = _largest(most, lambda count: one.startswith(other[:count]))
    tail = _largest(most - head, lambda count: one.endswith(other[len(other) - count :]))
    return head, tail


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """Returns the largest count up to `most` for which a condition holds that holds for all smaller ones."""
    if holds(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def unpacked(packed: Any, reader: Reader, depth: int = 0) -> Any:
    """Returns data of a journal with `Ref`s in the place of long texts.

    Raises:
        MissingValueError: It is a change of something else, or is no valid data.
    """
    if isinstance(packed, str):
        return packed
    if depth > MAX_DEPTH:
        raise MissingValueError("Data of the journal is nested too deeply.")
    if isinstance(packed, list):
        return [unpacked(part, reader, depth + 1) for part in packed]
    if not isinstance(packed, dict):
        return packed
    if "$value" in packed:
        return as_ref(packed, reader)
    if "$json" in packed:
        text = unpacked(packed["$json"], reader, depth + 1)
        text = text.read() if isinstance(text, Ref) else text
        try:
            return loaded(text.encode("utf-8", "surrogatepass"))
        except (ValueError, AttributeError, RecursionError) as error:
            raise MissingValueError(f"Data of the journal is damaged: {error}") from error
    if "$from" in packed:
        raise MissingValueError("The prompt before this one is missing.")
    return {key: unpacked(part, reader, depth + 1) for key, part in packed.items()}


def as_ref(packed: dict[str, Any], reader: Reader) -> Ref:
    """Returns the reference that an object of a journal is. Raises `MissingValueError` if it is invalid."""
    digest, chars = packed.get("$value"), packed.get("chars")
    if not isinstance(digest, str) or type(chars) is not int or chars < 0:
        raise MissingValueError("A reference in the journal is invalid.")
    return Ref(digest, chars, reader)


def patched(packed: Any, before: Any, reader: Reader, depth: int = 0) -> Any:
    """Returns the data of which `packed` is a change, with all texts read.

    Raises:
        MissingValueError: A part of it is missing or damaged.
    """
    if depth > MAX_DEPTH:
        raise MissingValueError("Data of the journal is nested too deeply.")
    if isinstance(packed, list):
        olds = before if isinstance(before, list) else []
        return [
            patched(part, olds[at] if at < len(olds) else None, reader, depth + 1)
            for at, part in enumerate(packed)
        ]
    if isinstance(packed, dict) and "$from" in packed:
        return _patched_text(packed, before, reader)
    if isinstance(packed, dict) and not any(key.startswith("$") for key in packed):
        old = before if isinstance(before, dict) else {}
        return {key: patched(part, old.get(key), reader, depth + 1) for key, part in packed.items()}
    value = unpacked(packed, reader, depth)
    return value.read() if isinstance(value, Ref) else value


def _patched_text(packed: dict[str, Any], before: Any, reader: Reader) -> str:
    ends, new = packed["$from"], unpacked(packed.get("new", ""), reader)
    new = new.read() if isinstance(new, Ref) else new
    if not isinstance(before, str):
        raise MissingValueError("The prompt before this one is missing.")
    valid = isinstance(ends, list) and [type(end) for end in ends] == [int, int]
    if not valid or not isinstance(new, str) or min(ends) < 0 or sum(ends) > len(before):
        raise MissingValueError("A prompt in the journal is damaged.")
    head, tail = ends
    return before[:head] + new + before[len(before) - tail :]
