"""Comparisons of arrays, element by element, and the selections that use them: `t[t["age"] > 3]`.

Runs inside the sandbox, so it uses only the standard library. A missing value is neither smaller nor larger than
anything; it equals None only.
"""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, cast

AMBIGUOUS = (
    "the truth value of an array with more than one element is ambiguous; use .any() or .all()"
)

# The types of booleans of NumPy, pandas and Polars.
MASK_TYPES = ("bool", "boolean", "Boolean")

Operator = Callable[[Any, Any], Any]
_EQUALITY = (operator.eq, operator.ne)


def compared(compare: Operator, cells: Sequence[Any], other: Any) -> list[bool]:
    """Compares cells with a value, or one by one with as many others."""
    return [bool(result) for result in _results(compare, cells, _others(cells, other))]


def _results(compare: Operator, cells: Sequence[Any], others: Iterable[Any]) -> Iterator[Any]:
    pairs = zip(cells, others, strict=False)
    if compare in _EQUALITY:
        return (compare(cell, other) for cell, other in pairs)
    return (
        False if cell is None or other is None else compare(cell, other) for cell, other in pairs
    )


def _others(cells: Sequence[Any], other: Any) -> Iterable[Any]:
    """Returns the other sides: of a sequence its items, else the value again and again."""
    if isinstance(other, (list, tuple, range)):
        if len(other) != len(cells):
            raise ValueError(f"{len(cells):,} elements cannot be compared with {len(other):,}")
        return other
    if type(other) is str:
        other = _moment(other, next((cell for cell in cells if cell is not None), None))
    return repeat(other)


def _moment(text: str, sample: Any) -> Any:
    """Reads a text that is compared with dates or datetimes, as pandas does."""
    if not isinstance(sample, datetime.date):
        return text
    kind = datetime.datetime if isinstance(sample, datetime.datetime) else datetime.date
    moment = kind.fromisoformat(text)
    zone = getattr(sample, "tzinfo", None)
    if zone is not None and cast(datetime.datetime, moment).tzinfo is None:
        return cast(datetime.datetime, moment).replace(tzinfo=zone)
    return moment


def is_mask(items: Iterable[Any]) -> bool:
    """Returns whether items are booleans, and at least one."""
    kinds = set(map(type, items))
    return kinds == {bool}


def selected(mask: Sequence[bool], size: int) -> list[int]:
    """Returns the positions that a mask selects.

    Raises:
        IndexError: It has another length.
    """
    if len(mask) != size:
        raise IndexError(
            f"the mask has {len(mask):,} elements, and there are {size:,} to select from"
        )
    return [at for at, chosen in enumerate(mask) if chosen]
