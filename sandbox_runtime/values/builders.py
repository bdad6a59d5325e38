"""Builders of tagged values: from the content of a tag to a standard-library value.

The content is hostile: every builder checks its form. Decimals that would explode later are refused, and dicts and sets
are built without hash collisions (`key_collisions.py`). Knows no session.
"""

from __future__ import annotations

import datetime
import re
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

from sandbox_runtime.host_costs import MAX_TAGGED_CHARS
from sandbox_runtime.values.bounds.exponents import check_exponent
from sandbox_runtime.values.bounds.key_collisions import check_keys, dict_of, set_of
from sandbox_runtime.zones import zone_names

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,3}")


class Rows(list[dict[Any, Any]]):
    """The rows of a table, as dicts. `columns` lists its columns, also without rows."""

    columns: tuple[Any, ...] = ()
    """The names of the columns, in their order."""


def _dict(content: Any) -> dict[Any, Any]:
    if not all(type(pair) is list and len(pair) == 2 for pair in as_list(content)):
        raise ValueError("a dict consists of something other than pairs")
    return dict_of(content)


def as_list(content: Any) -> list[Any]:
    """Returns the content if it is a list, else raises `ValueError`."""
    if type(content) is not list:
        raise ValueError("a value that should have items has none")
    return content


def _fields(content: Any) -> dict[Any, Any]:
    if type(content) is not dict:
        raise ValueError("a record has no fields")
    return content


def _items(content: Any) -> tuple[Any, ...]:
    return tuple(as_list(content))


def _table(content: Any) -> Rows:
    names, columns = content
    check_keys(as_list(names))
    rows = Rows(dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    rows.columns = tuple(names)
    return rows


def table_bytes(content: Any) -> int:
    """Returns the memory of a table's rows without their cells."""
    names, columns = map(as_list, content)
    return max(map(len, columns), default=0) * (192 + 40 * len(names))


def _text(value: object) -> str:
    # Only short texts: these types parse slowly, or build huge numbers from them ("1e999999999").
    if type(value) is not str or len(value) > MAX_TAGGED_CHARS:
        raise ValueError("a tagged text is invalid")
    return value


def _whole(content: object) -> list[int]:
    numbers = as_list(content)
    if len(numbers) != 3 or not all(type(number) is int for number in numbers):
        raise ValueError("a duration is invalid")
    return numbers


def _complex(content: object) -> complex:
    numbers = as_list(content)
    if len(numbers) != 2 or not all(type(number) in (int, float) for number in numbers):
        raise ValueError("a complex number is invalid")
    return complex(*numbers)


def datetime_in_zone(content: object, zone: object) -> datetime.datetime:
    """Builds a datetime. An unknown time zone, or one with other rules here, leaves the offset as it came."""
    moment = datetime.datetime.fromisoformat(_text(content))
    if zone is None:
        return moment
    name = _zone_name(zone)
    if name not in zone_names():
        return moment
    try:
        in_zone = moment.astimezone(zoneinfo.ZoneInfo(name))
    except (zoneinfo.ZoneInfoNotFoundError, OSError, OverflowError):
        return moment
    # If the zone's rules differ here, the clock time would change; the original offset is right.
    return in_zone if in_zone.replace(tzinfo=None) == moment.replace(tzinfo=None) else moment


def time_in_zone(content: object, zone: object) -> datetime.time:
    """Builds a time of day. Its text has no offset: in most zones that depends on the date.

    Raises:
        ValueError: The zone does not exist here. Cells have the names of this machine's zones.
    """
    moment = datetime.time.fromisoformat(_text(content))
    if zone is None:
        return moment
    name = _zone_name(zone)
    if name not in zone_names():
        raise ValueError("a time zone is unknown")
    return moment.replace(tzinfo=zoneinfo.ZoneInfo(name))


def _zone_name(zone: object) -> str:
    """Returns a name that can be looked up: it becomes a path in the host's time zone database."""
    if type(zone) is not str or len(zone) > 64 or not _ZONE.fullmatch(zone):
        raise ValueError("a time zone is invalid")
    return zone


def _decimal(content: object) -> Decimal:
    try:
        number = Decimal(_text(content))
    except InvalidOperation as error:
        raise ValueError("a decimal is invalid") from error
    check_exponent(number)
    return number


def _fraction(content: object) -> Fraction:
    top, _, bottom = _text(content).partition("/")
    return Fraction(int(top), int(bottom or "1"))


CLASS_CONTENT: dict[str, Callable[[Any], Any]] = {
    "record": _fields,
    "named": _items,
    "enum": lambda content: content,
}

# Bytes of an entry in addition to the item itself, in a hash table that is one third full.
ENTRY_BYTES = {"dict": 104, "tuple": 8, "set": 48, "frozenset": 48}

BUILDERS: dict[str, Callable[[Any], Any]] = {
    "dict": _dict,
    "tuple": _items,
    "set": lambda content: set_of(as_list(content)),
    "frozenset": lambda content: frozenset(set_of(as_list(content))),
    "table": _table,
    "complex": _complex,
    "date": lambda content: datetime.date.fromisoformat(_text(content)),
    "timedelta": lambda content: datetime.timedelta(*_whole(content)),
    "Decimal": _decimal,
    "Fraction": _fraction,
    "UUID": lambda content: uuid.UUID(_text(content)),
    "Path": lambda content: PurePosixPath(_text(content)),
}
