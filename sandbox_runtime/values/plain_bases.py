"""Reduces values of classes that exist on the host only to the built-in values that they are or act as.

For results of tools: their class is seldom the user's choice (a marked-up text of a template engine, a row of a
database, a mapping of headers), and code in a cell can do nothing about it.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Mapping
from typing import Any


def plain_base(value: Any) -> Any:
    """Returns a built-in value with the same content, or the value itself if it is of no such kind.

    Base methods are called by their class, because a subclass may replace them.
    """
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int.__pos__(value)
        case float():
            return float.__pos__(value)
        case bytes():
            return bytes.__getitem__(value, slice(None))
        case dict():
            return dict(dict.items(value))
        case list():
            return list.__getitem__(value, slice(None))
        case tuple() if hasattr(value, "_asdict"):  # a row of SQLAlchemy
            return dict(value._asdict())
        case tuple():
            return tuple(tuple.__iter__(value))
        case set():
            return set(set.__iter__(value))
        case frozenset():
            return frozenset(frozenset.__iter__(value))
        case Mapping():
            return dict(value)
        case zoneinfo.ZoneInfo() if value.key:
            return zoneinfo.ZoneInfo(value.key)
        case datetime.datetime():
            parts = (value.hour, value.minute, value.second, value.microsecond, value.tzinfo)
            return datetime.datetime(value.year, value.month, value.day, *parts, fold=value.fold)
        case datetime.date():
            return datetime.date(value.year, value.month, value.day)
    return value
