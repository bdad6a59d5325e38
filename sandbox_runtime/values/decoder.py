"""Decodes values from the sandbox: tagged JSON in, plain data and the session's own objects out.

All input is hostile until it is checked. No tag names code: classes and handles are those that the session sent
itself, by the names it chose. No value costs the host more than `host_costs.py` allows: its memory is estimated
before it is built, and numbers that would explode later are refused.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.guest.values.gc_pause import LARGE_BYTES, paused
from sandbox_runtime.guest.values.plain_json import is_plain, nested_within
from sandbox_runtime.host_costs import (
    BYTES_PER_PIECE,
    UNESTIMATED_BYTES,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.values.builders import (
    BUILDERS,
    CLASS_CONTENT,
    ENTRY_BYTES,
    as_list,
    datetime_in_zone,
    table_bytes,
    time_in_zone,
)
from sandbox_runtime.values.classes import Classes
from sandbox_runtime.values.handles import Handles

# Bytes that are searched one by one; see `_count`.
_FEW = 50

# The longest arguments of a call that need no estimate of their memory.
SHORT_CHARS = 16 * 1024

_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined, unused-ignore]

# Deeper than any output of `codec.send`, and far below the recursion limit.
MAX_DEPTH = 400


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
    size = sum(map(len, parts))
    if size < LARGE_BYTES:  # most values are small, and `paused` takes longer than to read one
        return _read(parts, classes, handles, memory_bytes)
    with paused(size):
        return _read(parts, classes, handles, memory_bytes)


def read_short(text: str, memory_bytes: int) -> Any:
    """Decodes the arguments of a small call; `is_short` decides. The same as `read`, in half of its time.

    Raises:
        ValueCrossingError: It is not JSON.
    """
    try:
        if len(text) > memory_bytes:
            raise ValueError("it would take too much memory")
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        # The function of the module looks for white space as well, and says what is wrong.
        return value if end == len(text) else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueCrossingError(
            f"The sandbox sent a value that cannot be read: {error}"
        ) from error


def is_short(text: str) -> bool:
    """Returns whether a value needs no estimate and no further look: few characters, no tag, and no deep nesting."""
    return (
        len(text) <= SHORT_CHARS
        and '"$"' not in text
        and text.count("[") + text.count("{") <= MAX_DEPTH
    )


def _read(
    parts: Sequence[bytes | bytearray], classes: Classes, handles: Handles, memory_bytes: int
) -> Any:
    try:
        if not parts:
            raise ValueError("it has no parts")
        memory = _Memory(memory_bytes)
        memory.take(_estimated_bytes(parts[0]))
        tree = json.loads(parts[0])
        # Most values are plain and need no further work. (If the marker is spelled with an escape
        # sequence, it is not a tag, and the result is a plain dict.)
        if _has(parts[0], b'"$"', b"$"):
            return _Reader(parts[1:], classes, handles, memory).value(tree, 0)
        if not (is_shallow(parts[0]) or nested_within(tree, MAX_DEPTH)):
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

    Based on the object sizes of CPython: a list takes 56 bytes and 8 for each item, a dict 184 with one key and about 100
    for each further key, a text about 50, a number 24 to 32. Characters inside texts count too, so the estimate may be too
    high but never too low.
    """
    if len(text) < UNESTIMATED_BYTES:
        return len(text)
    containers = 64 * _count(text, b"[") + 192 * _count(text, b"{")
    items = 44 * _count(text, b",") + 60 * _count(text, b":") + 28 * _count(text, b'"')
    if _has(text, b'"$"', b"$"):
        # The keys of all tags are two objects in total. (Inside a text their quotes would be escaped.)
        items -= 116 * (text.count(b'{"$":') + text.count(b',"of":') + text.count(b'","at":'))
    wide = 4 if _has(text, b"\\u", b"\\") or not text.isascii() else 1
    return containers + items + wide * len(text)


def _count(text: bytes | bytearray, byte: bytes) -> int:
    """Returns how often a byte occurs. To search a few takes less time than to compare every byte."""
    at = -1
    for found in range(_FEW):
        at = text.find(byte, at + 1)
        if at < 0:
            return found
    return text.count(byte)


_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

# Data is rarely deeper. Each level takes one more pass over the brackets.
_SHALLOW = 12


def is_shallow(text: bytes | bytearray) -> bool:
    """Returns whether valid JSON is certainly no deeper than a few levels, at the speed of a byte search.

    Removes everything but the brackets, and then pairs of them from the inside out. Only for a text with few strings, in
    which no quote is escaped: brackets in strings must not count.
    """
    if b"\\" in text or _count(text, b'"') >= _FEW:
        return False
    outside = b"".join(text.split(b'"')[::2])
    brackets = outside.translate(None, _ALL_BUT_BRACKETS)
    for _ in range(_SHALLOW):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return not brackets


def _has(text: bytes | bytearray, mark: bytes, rarest: bytes) -> bool:
    """Returns whether a mark occurs. A single byte is searched ten times as fast, and most texts do not contain it."""
    return rarest in text and mark in text


class _Memory:
    """The remaining memory allowance of one value."""

    def __init__(self, nbytes: int) -> None:
        self._total = self._remaining = nbytes

    def take(self, nbytes: int) -> None:
        """Reserves memory. Raises `ValueError` if the allowance is exceeded."""
        self._remaining -= nbytes
        if self._remaining < 0:
            raise ValueError(
                f"it would take more than {self._total:,} bytes of the host's memory. Send less at once, "
                "or send text, or raise Limits.frame_bytes: the limit is a multiple of it"
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
            return tree  # an output or argument without tags, next to others that have some
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
            return self._pieces(_index(tree["at"]), as_list(content))
        if kind == "handle":
            return self._handles.get(content)
        if kind in CLASS_CONTENT:
            return self._classes.rebuild(tree["as"], CLASS_CONTENT[kind](content))
        if kind == "datetime":
            return datetime_in_zone(content, tree.get("zone"))
        if kind == "time":
            return time_in_zone(content, tree.get("zone"))
        if kind in ENTRY_BYTES:
            self._memory.take(ENTRY_BYTES[kind] * len(content))
        if kind == "table":
            self._memory.take(table_bytes(content))
        return BUILDERS[kind](content)

    def _part(self, kind: str, at: int) -> str | bytes:
        """Returns raw bytes, decoded only once for any number of references: the results are immutable."""
        data = self._raw.get((kind, at))
        if data is None:
            data = self._raw[kind, at] = self._decoded(kind, self._extras[at])
        return data

    def _piece(self, kind: str, at: list[Any]) -> str | bytes:
        """Returns a piece of the part that short values share. Not cached: each piece is referenced once."""
        begin, end = map(_index, at)
        shared = self._extras[-1]
        if not begin <= end <= len(shared):
            raise ValueError("a reference to raw bytes is invalid")
        self._memory.take(BYTES_PER_PIECE + end - begin)
        return self._decoded(kind, shared[begin:end])

    def _pieces(self, begin: int, sizes: list[Any]) -> list[bytes]:
        """Returns the list of short values that lie one after the other in the shared part."""
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError("a reference to raw bytes is invalid")
        ends = list(itertools.accumulate(sizes, initial=begin))
        shared = memoryview(self._extras[-1])
        if ends[-1] > len(shared):
            raise ValueError("a reference to raw bytes is invalid")
        self._memory.take(BYTES_PER_PIECE * len(sizes) + ends[-1] - begin)
        return [shared[at:end].tobytes() for at, end in itertools.pairwise(ends)]

    def _decoded(self, kind: str, data: bytes | bytearray) -> str | bytes:
        self._memory.take(len(data) if kind == "bytes" or data.isascii() else 4 * len(data))
        return bytes(data) if kind == "bytes" else str(data, "utf-8", "surrogatepass")


def _index(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a reference to raw bytes is invalid")
    return value
