"""Decodes values from the sandbox: tagged JSON in, plain data and the session's own objects out.

All input is hostile until it is checked. No tag names code: classes and handles are those that the session sent
itself, by the names it chose. No value costs the host more than `host_costs.py` allows: its memory is estimated
before it is built, and numbers that would explode later are refused.
"""

from __future__ import annotations

import datetime
import functools
import itertools
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

from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.guest.values.gc_pause import paused
from sandbox_runtime.guest.values.plain_json import is_plain, nested_within
from sandbox_runtime.host_costs import (
    BYTES_PER_PIECE,
    MAX_DIGITS,
    MAX_TAGGED_CHARS,
    UNESTIMATED_BYTES,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.values.classes import Classes
from sandbox_runtime.values.handles import Handles
from sandbox_runtime.values.key_collisions import check_keys, dict_of, set_of

# Deeper than anything `crossing.send` produces, far below the recursion limit.
MAX_DEPTH = 400

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,3}")


class Rows(list[dict[Any, Any]]):
    """The rows of a table, as dicts. `columns` lists its columns, also without rows."""

    columns: tuple[Any, ...] = ()


def read(
    parts: Sequence[bytes | bytearray],
    classes: Classes,
    handles: Handles,
    memory_bytes: int = Limits().value_memory_bytes,
) -> Any:
    """Decodes a value with the classes and handles of a session.

    Args:
        parts: JSON text, and the raw bytes that it refers to.
        classes: The classes of the session.
        handles: Its handles.
        memory_bytes: The memory that the value may take.

    Raises:
        ValueCrossingError: The parts are not a valid value, or it would take too much memory.
    """
    with paused(sum(map(len, parts))):
        return _read(parts, classes, handles, memory_bytes)


def _read(
    parts: Sequence[bytes | bytearray], classes: Classes, handles: Handles, memory_bytes: int
) -> Any:
    try:
        if not parts:
            raise ValueError("nothing came")
        memory = _Memory(memory_bytes)
        memory.take(_estimated_bytes(parts[0]))
        tree = json.loads(parts[0])
        # Most values are plain: then nothing is left to do. (Where the mark is there in another
        # spelling, as an escape, nothing is a tag, and what comes out is a plain dict.)
        if b'"$"' in parts[0]:
            return _Reader(parts[1:], classes, handles, memory).value(tree, 0)
        if not nested_within(tree, MAX_DEPTH):
            raise ValueError("it is nested too deeply")
        return tree
    except (
        ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError,
        ArithmeticError, MemoryError,
    ) as error:  # fmt: skip
        raise ValueCrossingError(
            f"The sandbox sent a value that cannot be read: {error}"
        ) from error


def _estimated_bytes(text: bytes | bytearray) -> int:
    """Returns an upper bound for the memory of a JSON tree, at the speed of a byte search.

    By CPython's sizes: a list 56 bytes and 8 for an item, a dict of one key 184 and some 100 for
    another, a text about 50, a number 24 to 32. Characters inside texts count too, so the
    estimate is too high, never too low.
    """
    if len(text) < UNESTIMATED_BYTES:
        return len(text)
    containers = 64 * text.count(b"[") + 192 * text.count(b"{")
    items = 44 * text.count(b",") + 60 * text.count(b":") + 28 * text.count(b'"')
    # The keys of tags are two objects in all. (Inside of a text they would be spelled with backslashes.)
    keys = text.count(b'{"$":') + text.count(b',"of":') + text.count(b'","at":')
    items -= 116 * keys
    wide = 4 if b"\\u" in text or not text.isascii() else 1
    return containers + items + wide * len(text)


class _Memory:
    """The remaining memory allowance of one value."""

    def __init__(self, nbytes: int) -> None:
        self._all = self._left = nbytes

    def take(self, nbytes: int) -> None:
        """Reserves memory. Raises `ValueError` if the allowance is exceeded."""
        self._left -= nbytes
        if self._left < 0:
            raise ValueError(
                f"it would take more than {self._all:,} bytes of the host's memory. Send less at once, "
                "or text, or raise Limits.frame_bytes, of which this is a multiple"
            )


class _Reader:
    """Decodes the tree of one value."""

    def __init__(
        self,
        extras: Sequence[bytes | bytearray],
        classes: Classes,
        handles: Handles,
        memory: _Memory,
    ) -> None:
        self._extras = extras
        self._classes = classes
        self._handles = handles
        self._memory = memory
        self._raw: dict[tuple[str, int], str | bytes] = {}

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
            at = tree["at"]
            return self._piece(kind, at) if type(at) is list else self._part(kind, _index(at))
        content = self.value(tree["of"], depth + 1)
        if kind == "pieces":
            return self._pieces(_index(tree["at"]), _list(content))
        if kind == "handle":
            return self._handles.get(content)
        if kind in _OF_CLASSES:
            return self._classes.rebuild(tree["as"], _OF_CLASSES[kind](content))
        if kind == "datetime":
            return _datetime(content, tree.get("zone"))
        if kind in _ENTRY_BYTES:
            self._memory.take(_ENTRY_BYTES[kind] * len(content))
        if kind == "table":
            self._memory.take(_table_bytes(content))
        return _BUILDERS[kind](content)

    def _part(self, kind: str, at: int) -> str | bytes:
        """Returns raw bytes, decoded once however often the value refers to them: they are immutable."""
        known = self._raw.get((kind, at))
        if known is None:
            known = self._raw[kind, at] = self._decoded(kind, self._extras[at])
        return known

    def _piece(self, kind: str, at: list[Any]) -> str | bytes:
        """Bytes out of the part that short ones share. Nothing remembers them: each is referred to once."""
        begin, end = map(_index, at)
        shared = self._extras[-1]
        if not begin <= end <= len(shared):
            raise ValueError("a reference to raw bytes is wrong")
        self._memory.take(BYTES_PER_PIECE + end - begin)
        return self._decoded(kind, shared[begin:end])

    def _pieces(self, begin: int, sizes: list[Any]) -> list[bytes]:
        """A list of short ones, which lie one behind the other in the shared part."""
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError("a reference to raw bytes is wrong")
        ends = list(itertools.accumulate(sizes, initial=begin))
        shared = memoryview(self._extras[-1])
        if ends[-1] > len(shared):
            raise ValueError("a reference to raw bytes is wrong")
        self._memory.take(BYTES_PER_PIECE * len(sizes) + ends[-1] - begin)
        return [shared[at:end].tobytes() for at, end in itertools.pairwise(ends)]

    def _decoded(self, kind: str, data: bytes | bytearray) -> str | bytes:
        self._memory.take(len(data) if kind == "bytes" or data.isascii() else 4 * len(data))
        return bytes(data) if kind == "bytes" else str(data, "utf-8", "surrogatepass")


def _index(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a reference to raw bytes is wrong")
    return value


def _dict(content: Any) -> dict[Any, Any]:
    if not all(type(pair) is list and len(pair) == 2 for pair in _list(content)):
        raise ValueError("a dict has something else than pairs")
    return dict_of(content)


def _list(content: Any) -> list[Any]:
    if type(content) is not list:
        raise ValueError("a value that has items has none")
    return content


def _fields(content: Any) -> dict[Any, Any]:
    if type(content) is not dict:
        raise ValueError("a record has no fields")
    return content


def _items(content: Any) -> tuple[Any, ...]:
    return tuple(_list(content))


def _table(content: Any) -> Rows:
    names, columns = content
    check_keys(_list(names))
    rows = Rows(dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    rows.columns = tuple(names)
    return rows


def _table_bytes(content: Any) -> int:
    """Returns the memory of a table's rows beside their cells."""
    names, columns = map(_list, content)
    return max(map(len, columns), default=0) * (192 + 40 * len(names))


def _text(value: object) -> str:
    # A short cap: these types parse slowly, or build huge numbers from short text ("1e999999999").
    if type(value) is not str or len(value) > MAX_TAGGED_CHARS:
        raise ValueError("a tagged text is wrong")
    return value


def _whole(content: object) -> list[int]:
    numbers = _list(content)
    if len(numbers) != 3 or not all(type(number) is int for number in numbers):
        raise ValueError("a duration is wrong")
    return numbers


def _complex(content: object) -> complex:
    numbers = _list(content)
    if len(numbers) != 2 or not all(type(number) in (int, float) for number in numbers):
        raise ValueError("a complex number is wrong")
    return complex(*numbers)


def _datetime(content: object, zone: object) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(_text(content))
    if zone is None:
        return moment
    # The name becomes a path in the host's database of time zones.
    if type(zone) is not str or len(zone) > 64 or not _ZONE.fullmatch(zone):
        raise ValueError("a time zone is wrong")
    if zone not in _known_zones():
        return moment
    try:
        there = moment.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, OSError, OverflowError):
        return moment
    # A zone whose rules differ here would move the clock; the offset it came with is right.
    return there if there.replace(tzinfo=None) == moment.replace(tzinfo=None) else moment


@functools.cache
def _known_zones() -> frozenset[str]:
    """Returns the time zones of this machine, cached: a lookup of a missing one is slow."""
    return frozenset(zoneinfo.available_timezones())


def _decimal(content: object) -> Decimal:
    try:
        number = Decimal(_text(content))
    except InvalidOperation as error:
        raise ValueError("a decimal is wrong") from error
    # Converting it to an integer or a ratio writes out all its digits.
    if number.is_finite() and abs(number.adjusted()) > MAX_DIGITS:
        raise ValueError(
            f"a Decimal has an exponent beyond {MAX_DIGITS:,}, and so many digits once it is a whole "
            "number; send it as text"
        )
    return number


def _fraction(content: object) -> Fraction:
    top, _, bottom = _text(content).partition("/")
    return Fraction(int(top), int(bottom or "1"))


_OF_CLASSES: dict[str, Callable[[Any], Any]] = {
    "record": _fields,
    "named": _items,
    "enum": lambda content: content,
}

# What an entry takes beside the item itself, in a table that is a third full.
_ENTRY_BYTES = {"dict": 104, "tuple": 8, "set": 48, "frozenset": 48}

_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "dict": _dict,
    "tuple": _items,
    "set": lambda content: set_of(_list(content)),
    "frozenset": lambda content: frozenset(set_of(_list(content))),
    "table": _table,
    "complex": _complex,
    "date": lambda content: datetime.date.fromisoformat(_text(content)),
    "time": lambda content: datetime.time.fromisoformat(_text(content)),
    "timedelta": lambda content: datetime.timedelta(*_whole(content)),
    "Decimal": _decimal,
    "Fraction": _fraction,
    "UUID": lambda content: uuid.UUID(_text(content)),
    "Path": lambda content: PurePosixPath(_text(content)),
}
