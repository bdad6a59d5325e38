"""Values that stay on the host, as the sandbox has them: opaque handles that can be passed back.

Runs inside the sandbox, so it uses only the standard library. `sandbox_runtime/values/handles.py` is the other side, with
the table of the values.
"""

from __future__ import annotations

from typing import Any, NoReturn


class Handle:
    """An opaque value that stays on the host. Pass it to a tool, a sub-call or SUBMIT, which get the value itself."""

    __slots__ = ("_id", "_preview", "_type_name")
    _id: int
    _preview: str
    _type_name: str

    def __init__(self, number: int, type_name: str, preview: str) -> None:
        object.__setattr__(self, "_id", number)
        object.__setattr__(self, "_type_name", type_name)
        object.__setattr__(self, "_preview", preview)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._id, self._type_name, self._preview)

    def __copy__(self) -> Handle:
        return self

    def __deepcopy__(self, memo: object) -> Handle:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self._id == other._id

    def __hash__(self) -> int:
        return hash((Handle, self._id))

    def __repr__(self) -> str:
        preview = f": {self._preview}" if self._preview else ""
        return f"<{self._type_name} handle{preview}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks these up on any object
            raise AttributeError(name)
        raise AttributeError(f"{_only(self)} It has no attribute {name!r} here.")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{_only(self)} Its attributes cannot be set.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{_only(self)} Its attributes cannot be deleted.")


def _only(handle: Handle) -> str:
    return (
        f"{handle!r} refers to a value that stays on the host: it can be passed to a tool, a "
        "sub-call or SUBMIT, and stored in lists and dicts."
    )


def handle_id(handle: Handle) -> int:
    """Returns the number under which the host has the value."""
    number: int = object.__getattribute__(handle, "_id")
    return number
