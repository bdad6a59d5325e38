"""Columns as they travel: machine numbers or plain values, and the function that rebuilds them in the sandbox."""

from __future__ import annotations

import datetime
import pickle
import zoneinfo
from collections.abc import Callable
from typing import Any, TypeAlias

from sandbox_runtime.guest.values import arrays

Reduced: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...]]"

# Type codes of `array` by the names of NumPy, Polars and Arrow; "double" and "float" are Arrow's.
TYPECODES = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
    "float32": "f", "float64": "d", "float": "f", "double": "d",
}  # fmt: skip

TOO_FINE = "Datetimes in the sandbox have a resolution of microseconds; round it first."


class Cells:
    """A column for transfer; it pickles as the call that rebuilds it in the sandbox."""

    def __init__(self, make: Callable[..., arrays.Cells], *args: Any) -> None:
        self.reduced = make, args


def number_cells(typecode: str, data: Any, nulls: Any = None) -> Cells:
    """Returns a column of machine numbers; `nulls` has a 1 for each missing one."""
    # Out of band (PEP 574): the bytes are not copied into the pickle.
    return Cells(arrays.numbers, typecode, pickle.PickleBuffer(data), bits(nulls))


def bits(nulls: Any) -> Any:
    """Returns the bytes for an out-of-band transfer; None for None."""
    return None if nulls is None else pickle.PickleBuffer(nulls)


def time_zone(name: Any) -> datetime.tzinfo | None:
    """Returns a time zone by its name; one that is a tzinfo already, unchanged."""
    if name is None or isinstance(name, datetime.tzinfo):
        return name
    return datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(str(name))


def unique_names(names: list[Any]) -> list[Any]:
    """Returns the names. Raises `PicklingError` if two of them are equal."""
    duplicate = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if duplicate is not None:
        raise pickle.PicklingError(f"It has two columns called {str(duplicate)[:60]!r}; rename one")
    return names
