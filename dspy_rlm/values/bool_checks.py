"""Refuses True and False where a number is declared.

Python's `bool` is a subclass of `int`, and Pydantic reads True as 1, so a condition that was submitted in place of
a count would become an answer. The work is linear in the size of the value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeAlias

import pydantic

from dspy_rlm.values.previews import NAME_CHARS, short_repr

_SCALARS = frozenset({str, int, float, bytes, type(None)})
_SEQUENCES = (list, tuple)
_PLAIN_SEQUENCES = frozenset({list, tuple, set, frozenset})
_DICTS = frozenset({dict})

_Place: TypeAlias = "tuple[()] | tuple[_Place, Any]"
"""The keys to a part of a value, the last first: `(((), "rows"), 0)`."""


def check_no_bool_as_number(value: Any, result: Any) -> None:
    """Refuses a conversion that turned True or False into a number.

    Args:
        value: The value before the conversion: plain data or records.
        result: The value after it.

    Raises:
        ValueError: A number of the result was a bool; the message says where.
    """
    if not _has_bool(value):
        return
    # A value may contain itself, or one part many times.
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[_Place, Any, Any]] = [((), value, result)]
    while pending:
        place, before, after = pending.pop()
        if isinstance(before, bool):
            if isinstance(after, (int, float)) and not isinstance(after, bool):
                where = f" (at {_place_text(place)})" if place else ""
                raise ValueError(f"{before} is not a number{where}")
        elif (id(before), id(after)) not in seen:
            seen.add((id(before), id(after)))
            pending += [
                ((place, key), part, other)
                for key, part, other in _pairs(before, after)
                if type(part) not in _SCALARS
            ]


def _place_text(place: _Place) -> str:
    keys: list[str] = []
    while place:
        place, key = place
        keys.append(f"[{short_repr(key, NAME_CHARS)}]")
    return "".join(reversed(keys))


def _has_bool(value: Any) -> bool:
    """Returns whether a bool is in a value, at the speed of C for lists of lists of numbers."""
    seen: set[int] = set()
    level: Collection[Any] = [value]
    while level:
        types = set(map(type, level))
        if bool in types:
            return True
        if types <= _SCALARS:
            return False
        level = _unseen(level, seen)
        if types <= _PLAIN_SEQUENCES | _SCALARS:
            level = list(chain.from_iterable(level))
        elif types <= _DICTS | _SCALARS:
            level = list(chain.from_iterable(map(dict.values, level)))
        else:
            level = list(chain.from_iterable(map(_parts, level)))
    return False


def _unseen(values: Collection[Any], seen: set[int]) -> list[Any]:
    """Returns the containers among some values that were not met before."""
    containers = {id(value): value for value in values if type(value) not in _SCALARS}
    if seen.isdisjoint(containers):
        fresh = list(containers.values())
    else:
        fresh = [value for key, value in containers.items() if key not in seen]
    seen.update(containers)
    return fresh


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, (*_SEQUENCES, set, frozenset)):
        return value
    if isinstance(value, Mapping):
        return value.values()
    return _fields(value).values()


def _fields(value: Any) -> Mapping[str, Any]:
    if isinstance(value, pydantic.BaseModel) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    ):
        return vars(value) if hasattr(value, "__dict__") else {}
    return {}


def _pairs(before: Any, after: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yields the parts of both values that correspond, with their places."""
    if isinstance(before, Mapping):
        parts = after if isinstance(after, Mapping) else _fields(after)
        if len(parts) == len(before) and not all(name in parts for name in before):
            # Keys were converted as well; Pydantic keeps their order.
            for (key, part), (new_key, other) in zip(before.items(), parts.items(), strict=True):
                yield key, key, new_key
                yield key, part, other
            return
        for key, part in before.items():
            if key in parts:
                yield key, part, parts[key]
    elif isinstance(before, _SEQUENCES) and isinstance(after, _SEQUENCES):
        yield from ((at, part, other) for at, (part, other) in enumerate(zip(before, after)))  # noqa: B905 - a prefix is enough
    elif fields := _fields(before):
        parts = after if isinstance(after, Mapping) else _fields(after)
        yield from ((name, part, parts[name]) for name, part in fields.items() if name in parts)
