"""Refuses decimals with extreme exponents, as they arrive and as they are converted from text.

`Decimal("1e999999999")` is a few bytes, but `int()` of it, a ratio or a fixed-point text would have a billion digits: hours of CPU
time in the code that gets it. The type itself has no bound.
"""

from __future__ import annotations

import collections.abc
from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from sandbox_runtime.host_costs import MAX_DIGITS
from sandbox_runtime.values.annotations import cached_by_type, field_types, types_in

_CONTAINERS = (list, tuple, set, frozenset, deque)


def check_exponent(number: Decimal) -> None:
    """Raises `ValueError` if the number would have too many digits as an integer or a ratio."""
    if number.is_finite() and abs(number.adjusted()) > MAX_DIGITS:
        raise ValueError(
            f"a Decimal has an exponent beyond {MAX_DIGITS:,}, and would have as many digits as an "
            "integer; send it as text"
        )


def check_exponents(annotation: Any, value: Any) -> None:
    """Raises `ValueError` if a value of the type, after its conversion, has a decimal with too many digits."""
    if not _has_decimals(annotation):
        return
    visited: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Decimal):
            check_exponent(part)
        elif id(part) not in visited:
            inner = list(_content(part))
            if inner:
                visited[id(part)] = part  # keeps it alive, so that its id stays unique
            waiting += inner


def _content(value: Any) -> Iterable[Any]:
    if isinstance(value, collections.abc.Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, _CONTAINERS):
        return value
    if isinstance(value, (str, bytes, int, float)):
        return ()
    return [getattr(value, name, None) for name in field_types(type(value))]


@cached_by_type
def _has_decimals(annotation: Any) -> bool:
    """Returns whether `Decimal` is among the parts of a type, and of its classes' fields."""
    return any(
        isinstance(part, type) and issubclass(part, Decimal) for part in types_in(annotation)
    )
