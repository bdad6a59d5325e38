"""The guest side of the value codec: pickles in, tagged JSON out.

Runs inside the sandbox, so it uses only the standard library. `sandbox_runtime/values/encoder.py` is the other side. No
pickle ever leaves the sandbox: the host accepts data, never instructions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import uuid
from array import array
from collections import ChainMap, OrderedDict, deque
from collections.abc import Iterator, Sequence, Set, ValuesView
from decimal import Decimal
from fractions import Fraction
from itertools import chain

# Imported by name, so that a cell that replaces them in their modules does not affect this one.
from json import dumps as to_json
from json import loads as from_json
from json.encoder import c_make_encoder as make_encoder  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii
from pathlib import PurePath
from pickle import Unpickler
from pickle import loads as unpickle
from types import MappingProxyType, SimpleNamespace
from typing import Any

from sandbox_runtime.guest.values.chunks import Pieces
from sandbox_runtime.guest.values.gc_pause import paused
from sandbox_runtime.guest.values.handles import Handle, handle_id
from sandbox_runtime.guest.values.lazy_sequences import LazySequence
from sandbox_runtime.guest.values.plain_json import is_plain
from sandbox_runtime.guest.values.records import Record, host_key
from sandbox_runtime.guest.values.tables import columns_of, plain_of

Part = bytes | bytearray | memoryview

# Text and bytes longer than this are sent as raw bytes outside the JSON.
INLINE_CHARS = 64 * 1024

# Beyond this number of parts, long texts and bytes share one as well: the header of a frame lists the length of each
# part, and is bounded.
MAX_OWN_PARTS = 1_000

# Deeper values are cycles or accidents, and would exhaust a recursive decoder.
MAX_DEPTH = 100

# About 4,200 digits: Python refuses to read or write longer numbers as decimal text.
MAX_INT_BITS = 14_000

# The digits of an integer that the host may create from a `Decimal`; see `host_costs.py`.
MAX_EXPONENT = 4_200


def receive(kind: str, parts: Sequence[Any]) -> Any:
    """Returns the value that the host sent. Raises the errors of `pickle` for a value that cannot exist here.

    A part may already be a text, and a pickle may be a list of chunks, which is emptied.
    """
    first, *buffers = parts
    size = sum(map(len, first)) if type(first) is list else len(first)
    with paused(size):
        return _receive(kind, first, buffers)


def _receive(kind: str, first: Any, buffers: Sequence[Part]) -> Any:
    if kind == "json":
        return from_json(bytes(first))
    if kind == "text":
        return first if type(first) is str else str(first, "utf-8", "surrogatepass")
    if kind == "bytes":
        return bytes(first)
    if type(first) is list:
        return Unpickler(Pieces(first), buffers=buffers).load()
    return unpickle(first, buffers=buffers)


class CannotSend(TypeError):  # noqa: N818 - the LM reads the name
    """A value has no representation outside the sandbox; the message names its place."""

    __module__ = "builtins"  # tracebacks show the bare name


def send(value: Any, label: str) -> tuple[str, list[Part]]:
    """Encodes a value for the host: as JSON text, and the raw bytes that it refers to.

    `label` names the value in error messages.

    Raises:
        CannotSend: It contains something that cannot leave, or is nested too deeply.
    """
    if is_plain(value, depth=MAX_DEPTH, chars=INLINE_CHARS):
        # An integer too long for the encoder is too long for the host as well; the walk below finds
        # its place.
        with contextlib.suppress(ValueError):
            return "".join(_encode_plain(value, 0)), []
    extras = _Extras()
    tree = _tree(value, label, 0, extras)
    return to_json(tree, separators=(",", ":")), extras.parts


# The standard encoder, created once instead of for each value. Only for values without cycles.
_encode_plain = make_encoder(
    None, None, encode_basestring_ascii, None, ":", ",", False, False, True
)

_TABLE: dict[Any, Any] = {}
_SETS: frozenset[type] = frozenset(
    [Set, set, frozenset]
    + [
        type(view)
        for table in (_TABLE, OrderedDict(_TABLE))
        for view in (table.keys(), table.items())
    ]
)

_MAPPINGS: frozenset[type] = frozenset([ChainMap, MappingProxyType])
_SEQUENCES: frozenset[type] = frozenset([ValuesView, type(_TABLE.values()), LazySequence])
_FRACTIONS: frozenset[type] = frozenset([Fraction])

# The modules of generators, `map`, `zip` and the like, whose items are what a cell means to send.
_ITERATING = frozenset({"builtins", "itertools"})

_SCALARS = frozenset({str, int, float, bool, type(None)})


def send_call(args: tuple[Any, ...], kwargs: dict[str, Any], label: str) -> tuple[str, list[Part]]:
    """Encodes the arguments of a call; see `send`. A few short ones, as in most calls, take a fast path."""
    few = len(args) + len(kwargs) < 8 and "$" not in kwargs
    if few and _SCALARS.issuperset(map(type, chain(args, kwargs.values()))):
        try:
            text = "".join(_encode_plain([args, kwargs], 0))
            if len(text) <= INLINE_CHARS:
                return text, []
        except ValueError:  # `suppress` would take as long as the encoder
            pass
    return send([list(args), kwargs], label)


class _Extras:
    """The raw bytes of a tree: long values have parts of their own, short ones share one."""

    def __init__(self) -> None:
        self._own: list[Part] = []
        self._shared = bytearray()
        self._shares = False

    def put(self, kind: str, data: bytes) -> dict[str, Any]:
        """Adds bytes. Returns the tag that refers to them: by the number of a part, or by the begin and end in the
        shared part.
        """
        if len(data) > INLINE_CHARS and len(self._own) < MAX_OWN_PARTS:
            self._own.append(data)
            return {"$": kind, "at": len(self._own) - 1}
        self._shares = True
        begin = len(self._shared)
        self._shared += data
        return {"$": kind, "at": [begin, begin + len(data)]}

    def put_all(self, items: Sequence[bytes]) -> dict[str, Any]:
        """Adds many short values. The tag has their begin and the length of each."""
        self._shares = True
        begin = len(self._shared)
        self._shared += b"".join(items)
        return {"$": "pieces", "at": begin, "of": list(map(len, items))}

    @property
    def parts(self) -> list[Part]:
        """All parts; the shared one, if any, is last."""
        return [*self._own, self._shared] if self._shares else self._own


def _tree(value: Any, path: str, depth: int, extras: _Extras) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return _checked(value, path)
    if kind is str:
        return value if len(value) <= INLINE_CHARS else extras.put("str", _utf8(value))
    if kind is bytes:
        return extras.put("bytes", value)
    if depth > MAX_DEPTH:
        raise CannotSend(
            f"{path[:200]} is nested deeper than {MAX_DEPTH} levels, or contains itself"
        )
    if _is_plain_part(value, kind, depth):
        return value
    if kind is list:
        if _are_short_bytes(value):
            return extras.put_all(value)
        return [_tree(item, f"{path}[{at}]", depth + 1, extras) for at, item in enumerate(value)]
    if kind is dict:
        return _dict_tree(value, path, depth, extras)
    return _other_tree(value, path, depth, extras)


def _are_short_bytes(items: list[Any]) -> bool:
    return set(map(type, items)) == {bytes} and max(map(len, items)) <= INLINE_CHARS


def _is_plain_part(value: Any, kind: type, depth: int) -> bool:
    """Returns whether an output or argument needs no walk, even if others do."""
    return (
        (kind is list or kind is dict)
        and depth <= 2
        and is_plain(value, depth=MAX_DEPTH - depth, chars=INLINE_CHARS, bits=MAX_INT_BITS)
    )


def _dict_tree(value: dict[Any, Any], path: str, depth: int, extras: _Extras) -> Any:
    if "$" not in value and all(type(key) is str for key in value):
        return {k: _tree(item, f"{path}[{k!r}]", depth + 1, extras) for k, item in value.items()}
    pairs = [
        [_tree(k, f"{path} key", depth + 1, extras), _tree(v, f"{path}[{k!r}]", depth + 1, extras)]
        for k, v in value.items()
    ]
    return {"$": "dict", "of": pairs}


def _fields_tree(fields: dict[Any, Any], path: str, depth: int, extras: _Extras) -> Any:
    """Encodes fields like the items of a dict, with paths in attribute notation."""
    if "$" in fields or not all(type(key) is str for key in fields):
        return _dict_tree(fields, path, depth, extras)
    return {k: _tree(item, f"{path}.{k}", depth + 1, extras) for k, item in fields.items()}


def _with_class(value: Any, kind: str, content: Any, otherwise: Any = None) -> Any:
    """Returns the content, tagged with the host's name of the value's class if the host has the class."""
    if (key := host_key(type(value))) is not None:
        return {"$": kind, "as": key, "of": content}
    return content if otherwise is None else otherwise


def _other_tree(value: Any, path: str, depth: int, extras: _Extras) -> Any:
    """Encodes all but the plain JSON types; a subclass is encoded as its base type."""
    match value:
        case enum.Enum():
            return _with_class(value, "enum", _tree(value.value, path, depth, extras))
        case str():
            return _tree(str.__str__(value), path, depth, extras)
        case int():
            return _checked(int.__int__(value), path)
        case float():
            return float.__float__(value)
        case Handle():
            return {"$": "handle", "of": handle_id(value)}
        case tuple():
            items = _tree(list(value), path, depth, extras)
            return _with_class(value, "named", items, {"$": "tuple", "of": items})
        case frozenset():
            return {"$": "frozenset", "of": _tree(list(value), path, depth, extras)}
        case _ if _is_any(value, _SETS):
            return {"$": "set", "of": _tree(list(value), path, depth, extras)}
        case bytes() | bytearray() | memoryview():
            return extras.put("bytes", bytes(value))
        case dict():
            return _dict_tree(dict(value), path, depth, extras)
        case _ if _is_any(value, _MAPPINGS):
            return _dict_tree(dict(value), path, depth, extras)
        case SimpleNamespace():
            return _fields_tree(dict(vars(value)), path, depth, extras)
        case list() | deque() | range() | array():
            return _tree(list(value), path, depth, extras)
        case _ if _is_any(value, _SEQUENCES):
            return _tree(list(value), path, depth, extras)
        case Iterator() if type(value).__module__ in _ITERATING:
            return _tree(list(value), path, depth, extras)
        case Record():
            return _with_class(
                value, "record", _fields_tree(dict(vars(value)), path, depth, extras)
            )
        case complex():
            return {"$": "complex", "of": [value.real, value.imag]}
        case datetime.datetime() | datetime.time() if (
            zone := getattr(value.tzinfo, "key", None)
        ) is not None:
            return {"$": _calendar_kind(value), "of": value.isoformat(), "zone": str(zone)}
        case datetime.datetime() if value != value:  # pandas's NaT
            return None
        case datetime.datetime() | datetime.date() | datetime.time():
            return {"$": _calendar_kind(value), "of": value.isoformat()}
        case datetime.timedelta():
            return {"$": "timedelta", "of": [value.days, value.seconds, value.microseconds]}
        case Decimal() if Decimal.is_finite(value) and abs(Decimal.adjusted(value)) > MAX_EXPONENT:
            raise CannotSend(
                f"{path} is a Decimal with an exponent beyond {MAX_EXPONENT:,}, which cannot leave the "
                "sandbox; send it as text"
            )
        case Decimal() | uuid.UUID() | PurePath():
            return {"$": _named_kind(value), "of": str(value)}
        case _ if _is_any(value, _FRACTIONS):
            return {"$": _named_kind(value), "of": str(value)}
    if type(value).__module__ == "ipaddress":
        return _tree(str(value), path, depth + 1, extras)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _fields_tree(fields, path, depth, extras)
    try:
        columns = columns_of(value)
    except ValueError as error:
        raise CannotSend(f"{path} {error}") from error
    if columns is not None:
        names = _tree(list(columns), f"{path}.columns", depth, extras)
        cells = [_tree(c, f"{path}[{n!r}]", depth + 1, extras) for n, c in columns.items()]
        return {"$": "table", "of": [names, cells]}
    if (plain := plain_of(value)) is not None:
        return _tree(plain[0], path, depth + 1, extras)
    raise CannotSend(
        f"{path} is of type {type(value).__name__}, which cannot leave the sandbox; "
        "turn it into text, numbers, lists or dicts first"
    )


def _is_any(value: Any, kinds: frozenset[type]) -> bool:
    """Returns whether it is one of these by its own bases: any class can be registered as an abstract one.

    `isinstance` would also call the `__subclasshook__` of all classes that cells have derived from that.
    """
    return not kinds.isdisjoint(type(value).__mro__)


def _checked(value: int, path: str) -> int:
    if value.bit_length() > MAX_INT_BITS:
        raise CannotSend(
            f"{path} is an integer of more than {MAX_INT_BITS * 3 // 10:,} digits, which cannot "
            "leave the sandbox; send it as text, for example hex(value)"
        )
    return value


def _calendar_kind(value: datetime.datetime | datetime.date | datetime.time) -> str:
    for kind in (datetime.datetime, datetime.date):
        if isinstance(value, kind):
            return kind.__name__
    return "time"


def _named_kind(value: Decimal | Fraction | uuid.UUID | PurePath) -> str:
    if isinstance(value, PurePath):
        return "Path"
    for kind in (Decimal, uuid.UUID):
        if isinstance(value, kind):
            return kind.__name__
    return "Fraction"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
