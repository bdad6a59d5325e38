"""Combinations of the user's flags: a class of flags keeps each that was ever made, so their number is bounded."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin

from sandbox_runtime.host_costs import MAX_FLAG_COMBINATIONS
from sandbox_runtime.values.annotations import cached_by_type, types_in
from sandbox_runtime.values.bounds.conversion_cost import (
    annotation_key,
    content_at,
    fields_by_place,
    is_union,
    plain_annotation,
)

_LISTS = (list, tuple, set, frozenset)


def flag_validator(cls: type[enum.Flag]) -> Callable[[Any], enum.Flag]:
    """Returns a function that builds a combination of the class's own flags, or raises `ValueError`."""

    def build(value: Any) -> enum.Flag:
        check_flag(cls, value)
        return cls(value)

    return build


def check_flag(cls: Any, value: Any) -> Any:
    """Returns the value unchanged, unless the class would have to keep it as a new combination and cannot.

    `IntFlag(n)` keeps a member for any integer, and a combination that was forgotten would no longer equal an earlier
    one: flags are compared by identity. So bits that are no flags are refused, and new combinations beyond a number.
    """
    if type(value) is not int:
        return value
    mask, all_bits = cls._flag_mask_, cls._all_bits_
    if not ~all_bits <= value <= all_bits or (value & all_bits) & ~mask:
        raise ValueError(f"{value!r:.100} has bits that are no flags of {cls.__name__}")
    kept = cls._value2member_map_
    if value not in kept and len(kept) >= MAX_FLAG_COMBINATIONS + len(cls.__members__):
        raise ValueError(f"{cls.__name__} has {len(kept):,} combinations already")
    return value


def check_flags(annotation: Any, value: Any) -> None:
    """Raises `ValueError` if a class of flags in the type would have to keep too much; see `check_flag`.

    A number that another type of a union takes as well is not checked.
    """
    if not _has_flags(annotation):
        return
    visited: dict[tuple[Any, int], Any] = {}
    waiting = [(plain_annotation(annotation), value)]
    while waiting:
        kind, part = waiting.pop()
        if not isinstance(part, (Mapping, *_LISTS)):
            if _is_flag(kind):
                check_flag(kind, part)
            elif is_union(kind):
                waiting += [(flag, part) for flag in _flags_of(kind)]
            continue
        key = annotation_key(kind), id(part)
        if key not in visited:
            visited[key] = part  # keeps it alive, so that its id stays unique
            waiting += [(plain_annotation(inner), item) for inner, item in _parts(kind, part)]


@cached_by_type
def _has_flags(annotation: Any) -> bool:
    return any(map(_is_flag, types_in(annotation)))


def _is_flag(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Flag)


@cached_by_type
def _flags_of(union: Any) -> tuple[Any, ...]:
    """Returns the classes of flags in a union that alone take its numbers."""
    kinds = [plain_annotation(kind) for kind in get_args(union)]
    others = [kind for kind in kinds if not _is_flag(kind) and not _takes_no_number(kind)]
    return () if others else tuple(filter(_is_flag, kinds))


def _takes_no_number(kind: Any) -> bool:
    cls = get_origin(kind) or kind
    return isinstance(cls, type) and (
        cls in (str, bytes, type(None), *_LISTS, dict) or bool(fields_by_place(cls))
    )


def _parts(kind: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields the parts of a container, each with its type."""
    inner, origin = get_args(kind), get_origin(kind)
    if is_union(kind):
        yield from ((alternative, value) for alternative in inner)
    elif fields := fields_by_place(origin or kind) if isinstance(origin or kind, type) else {}:
        yield from _parts_of_record(fields, value)
    elif isinstance(value, Mapping):
        if len(inner) > 1:
            yield from ((inner[0], key) for key in value)
            yield from ((inner[1], item) for item in value.values())
    elif origin is tuple and ... not in inner:
        yield from zip(inner, value, strict=False)
    elif inner:
        yield from ((inner[0], item) for item in value)


def _parts_of_record(fields: Mapping[Any, Any], value: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(value, Mapping):
        yield from zip(fields.values(), value, strict=False)  # a named tuple from a list
        return
    for place, kind in fields.items():
        yield from ((kind, part) for part in content_at(place, fields, value))
