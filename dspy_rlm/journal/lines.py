"""The lines of a journal: JSON, one event each. Knows no event and no file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

FORMAT = "dspy-rlm.journal"

# Incremented when an older version could no longer read a journal.
VERSION = 1

# No event is as long: long texts are stored beside the journal. A longer line is not written and not read.
MAX_LINE_BYTES = 16 * 1024 * 1024

# Subclasses of dict and str, dataclasses and dates would be written as plain data, which they are not.
_EXACT = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)


def dumped(value: Any) -> bytes:
    """Returns JSON. Unlike `orjson` alone, it takes lone surrogates and integers of any size."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _json(value)


def dumped_exactly(value: Any) -> bytes | None:
    """Returns the JSON of plain data of which `loaded_exactly` makes an equal value; None for other values."""
    for dump, load in ((_orjson, orjson.loads), (_json, json.loads)):
        try:
            data = dump(value)
            if _equal(load(data), value):
                return data
        except (TypeError, ValueError, RecursionError):
            continue
    return None


def loaded_exactly(data: bytes) -> Any:
    """Returns the value of JSON. `orjson` makes floats of large integers, and has no infinity."""
    return json.loads(data)


def _orjson(value: Any) -> bytes:
    return orjson.dumps(value, option=_EXACT)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _equal(one: Any, other: Any) -> bool:
    """Returns whether two values are equal and of the same types: `True == 1`, and a tuple becomes a list."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def loaded(data: bytes) -> Any:
    """Returns the value of JSON. Raises `ValueError` if it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def as_line(event: Mapping[str, Any]) -> bytes:
    """Returns an event as a line.

    Raises:
        ValueError: It is too long.
    """
    line = dumped(event) + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"an event of {len(line):,} bytes is too long")
    return line
