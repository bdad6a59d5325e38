"""What the sandbox sends, read: tagged JSON in, plain data and the session's own objects out.

Everything here is hostile until it is checked. No tag names code: a class or a handle is one that the
session gave away itself, by the name it gave.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

from sandbox_runtime.classes import Classes
from sandbox_runtime.deno.collector import paused
from sandbox_runtime.deno.plain import is_plain, nested_within
from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.handles import Handles

# Deeper than anything `crossing.send` produces, far below the recursion limit.
MAX_DEPTH = 400

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,3}")


class Rows(list[dict[Any, Any]]):
    """The rows of a table, as dicts. `columns` are its columns, also where there are no rows."""

    columns: tuple[Any, ...] = ()


def read(parts: Sequence[bytes | bytearray], classes: Classes, handles: Handles) -> Any:
    """The value that the parts are, by the classes and handles of a session.

    Raises:
        ValueCrossingError: The parts are no value.
    """
    with paused(sum(map(len, parts))):
        return _read(parts, classes, handles)


def _read(parts: Sequence[bytes | bytearray], classes: Classes, handles: Handles) -> Any:
    try:
        if not parts:
            raise ValueError("nothing came")
        tree = json.loads(parts[0])
        # Most values are plain: then nothing is left to do. (Where the mark is there in another
        # spelling, as an escape, nothing is a tag, and what comes out is a plain dict.)
        if b'"$"' in parts[0]:
            return _Reader(parts[1:], classes, handles).value(tree, 0)
        if not nested_within(tree, MAX_DEPTH):
            raise ValueError("it is nested too deeply")
        return tree
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, ArithmeticError) as error:
        raise ValueCrossingError(
            f"The sandbox sent a value that cannot be read: {error}"
        ) from error


class _Reader:
    """Reads the tree of one value."""

    def __init__(
        self, extras: Sequence[bytes | bytearray], classes: Classes, handles: Handles
    ) -> None:
        self._extras = extras
        self._classes = classes
        self._handles = handles

    def value(self, tree: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if 0 < depth <= 2 and is_plain(tree, depth=MAX_DEPTH - depth, chars=sys.maxsize):
            return tree  # an output or an argument without tags, beside others that have some
        if type(tree) is list:
            return [self.value(item, depth + 1) for item in tree]
        if type(tree) is not dict:
            return tree
        if "$" not in tree:
            return {key: self.value(item, depth + 1) for key, item in tree.items()}
        kind = tree["$"]
        if kind in ("str", "bytes"):
            data = bytes(self._extras[_index(tree["at"])])
            return data if kind == "bytes" else data.decode("utf-8", "surrogatepass")
        content = self.value(tree["of"], depth + 1)
        if kind == "handle":
            return self._handles.get(content)
        if kind in _OF_CLASSES:
            return self._classes.rebuild(tree["as"], _OF_CLASSES[kind](content))
        if kind == "datetime":
            return _datetime(content, tree.get("zone"))
        return _BUILDERS[kind](content)


def _index(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a reference to raw bytes is wrong")
    return value


def _hashable(key: Any) -> Any:
    hash(key)
    return key


def _dict(content: Any) -> dict[Any, Any]:
    return {_hashable(key): item for key, item in content}


def _fields(content: Any) -> dict[Any, Any]:
    if type(content) is not dict:
        raise ValueError("a record has no fields")
    return content


def _items(content: Any) -> tuple[Any, ...]:
    if type(content) is not list:
        raise ValueError("a tuple has no items")
    return tuple(content)


def _table(content: Any) -> Rows:
    names, columns = content
    rows = Rows(dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    rows.columns = tuple(map(_hashable, names))
    return rows


def _text(value: object) -> str:
    # A short cap: these types parse slowly, or build huge numbers from short text ("1e999999999").
    if type(value) is not str or len(value) > 4000:
        raise ValueError("a tagged text is wrong")
    return value


def _datetime(content: object, zone: object) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(_text(content))
    if zone is None:
        return moment
    # The name becomes a path in the host's database of time zones.
    if type(zone) is not str or len(zone) > 64 or not _ZONE.fullmatch(zone):
        raise ValueError("a time zone is wrong")
    try:
        there = moment.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, OSError, OverflowError):
        return moment
    # A zone whose rules differ here would move the clock; the offset it came with is right.
    return there if there.replace(tzinfo=None) == moment.replace(tzinfo=None) else moment


def _decimal(content: object) -> Decimal:
    try:
        return Decimal(_text(content))
    except InvalidOperation as error:
        raise ValueError("a decimal is wrong") from error


def _fraction(content: object) -> Fraction:
    top, _, bottom = _text(content).partition("/")
    return Fraction(int(top), int(bottom or "1"))


_OF_CLASSES: dict[str, Callable[[Any], Any]] = {
    "record": _fields,
    "named": _items,
    "enum": lambda content: content,
}

_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "dict": _dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "table": _table,
    "complex": lambda content: complex(*content),
    "date": lambda content: datetime.date.fromisoformat(_text(content)),
    "time": lambda content: datetime.time.fromisoformat(_text(content)),
    "timedelta": lambda content: datetime.timedelta(*content),
    "Decimal": _decimal,
    "Fraction": _fraction,
    "UUID": lambda content: uuid.UUID(_text(content)),
    "Path": lambda content: PurePosixPath(_text(content)),
}
