"""The host side of the value codec: pickles to the sandbox, checked data back.

Values enter the sandbox as UTF-8 text, raw bytes, or a pickle whose classes all exist there. Only tagged JSON comes back,
which `decoder.py` decodes. `guest/values/codec.py` is the other side.
"""

from __future__ import annotations

import datetime
import io
import json
import pickle
import uuid
import zoneinfo
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from pathlib import PurePath, PurePosixPath
from types import MappingProxyType
from typing import Any

from sandbox_runtime.buffers import Part
from sandbox_runtime.errors import SandboxDiedError, ValueCrossingError
from sandbox_runtime.guest.values.codec import INLINE_CHARS, MAX_INT_BITS, MAX_OWN_PARTS
from sandbox_runtime.guest.values.records import Record
from sandbox_runtime.guest.values.zones import time_zone
from sandbox_runtime.limits import Limits
from sandbox_runtime.texts.calls import in_cell
from sandbox_runtime.values import tables
from sandbox_runtime.values.annotations import classes_in, is_standard
from sandbox_runtime.values.builders import Rows
from sandbox_runtime.values.chunks import SMALL_BYTES, AnyPart, NullSink, Sink, Stream, Text
from sandbox_runtime.values.classes import Classes, fields_of, kind_of
from sandbox_runtime.values.decoder import is_short, read, read_short
from sandbox_runtime.values.handles import Handles, Pending
from sandbox_runtime.values.plain_bases import plain_base
from sandbox_runtime.values.tabular.cells import Cells
from sandbox_runtime.values.type_rules import CodeType, HandleType, Rule, Rules, ValueType
from sandbox_runtime.zones import zone_data

# Depth limit of the search for the offending element, which only serves an error message.
_SEARCH_DEPTH = 50


class ValueCodec:
    """The value codec of one session, with its rules, classes and handles.

    Lives as long as the session, across its processes: earlier handles and classes stay valid.
    """

    def __init__(self, types: Iterable[Rule | Any] = ()) -> None:
        """Sets the rules.

        Args:
            types: Rules for types; and types whose classes cells can use by name: `Person`,
                `list[Person]`. The classes of their fields are included.
        """
        entries = list(types)
        self._rules = Rules(entry for entry in entries if isinstance(entry, Rule))
        classes = classes_in(*(entry for entry in entries if not isinstance(entry, Rule)))
        self.declared = [c for c in classes if kind_of(c) and not self._rules.find(c)]
        self._classes = Classes()
        self._handles = Handles()

    @property
    def has_handles(self) -> bool:
        """True if values of this process have handles in the sandbox."""
        return bool(self._handles)

    def with_types(self, types: Iterable[Rule | Any]) -> ValueCodec:
        """Returns a codec with other rules that still knows the earlier classes and handles."""
        codec = ValueCodec(types)
        codec._classes, codec._handles = self._classes, self._handles
        return codec

    def encode(self, value: object, label: str, *, plainly: bool = False) -> tuple[str, list[Part]]:
        """Encodes a value for the sandbox, as its kind and parts.

        Args:
            value: The value.
            label: Its name, for error messages.
            plainly: Whether values of subclasses of built-in types cross as the latter; see `plain_bases.py`.

        Raises:
            ValueCrossingError: A part of it cannot or must not cross; the message names its place.
        """
        if type(value) is str:
            return "text", [value.encode("utf-8", "surrogatepass")]
        if type(value) is bytes:
            return "bytes", [value]
        buffers: list[Part] = []
        stream = io.BytesIO()
        self._dump(value, label, stream, buffers, plainly=plainly)
        return "pickle", [stream.getvalue(), *buffers]

    def _dump(
        self, value: object, label: str, stream: Sink, buffers: list[Part], *, plainly: bool = False
    ) -> None:
        try:
            self._pickle(value, stream, buffers, plainly=plainly)
        except SandboxDiedError:
            raise
        except Exception as error:
            place, culprit = self._find_offender(value, label, plainly=plainly)
            raise ValueCrossingError(
                f"{place} is of type {_type_name(culprit)}, which cannot enter the sandbox. "
                f"{_advice(culprit) or _usual_advice(error)}"
            ) from error

    def encode_variable(
        self, value: object, name: str, stream: Stream
    ) -> tuple[str, Sequence[AnyPart]]:
        """Encodes a variable. Unlike `encode`, does not copy large parts: text is encoded lazily, and a large
        pickle is streamed.

        A value of a `CodeType` becomes its data, and code that creates the variable.
        """
        rule = self._rules.find(type(value))
        if not isinstance(rule, CodeType):
            return self._encode_lazily(value, name, stream)
        data_name = f"_raw_{name}"
        try:
            payload, code = rule.payload(value), rule.code(value, name, data_name)
        except Exception as error:
            raise ValueCrossingError(
                f"{name} is of type {_type_name(value)}, and its rule failed to encode it for the "
                f"sandbox. {_reason(error)}"
            ) from error
        kind, parts = self._encode_lazily(payload, name, stream)
        return f"code:{kind}", [code.encode(), data_name.encode(), *parts]

    def _encode_lazily(
        self, value: object, label: str, stream: Stream
    ) -> tuple[str, Sequence[AnyPart]]:
        if type(value) is str and len(value) > SMALL_BYTES:
            return "text", [Text(value)]
        if type(value) in (str, bytes):
            return self.encode(value, label)
        buffers: list[Part] = []
        self._dump(value, label, stream, buffers)
        return "pickle", [stream.finish(), *buffers]

    def encode_declared(self) -> list[Part]:
        """Returns the classes that cells can use by name, for an `Assign` of the kind `types`."""
        stream = io.BytesIO()
        self._pickle(self.declared, stream, [])
        return [stream.getvalue()]

    def decode(
        self, parts: Sequence[bytes | bytearray], memory_bytes: int = Limits().value_memory_bytes
    ) -> Any:
        """Decodes a value from the sandbox: plain data, rebuilt from tags, never unpickled.

        Raises:
            ValueCrossingError: The parts are not a valid value, or it would take more than `memory_bytes`.
        """
        return read(parts, self._classes, self._handles, memory_bytes)

    def decode_call(self, inline: str, attachments: Sequence[bytearray], memory_bytes: int) -> Any:
        """Decodes the arguments of a call, which are JSON text unless there are attachments; see `decode`."""
        if not attachments and is_short(inline):
            return read_short(inline, memory_bytes)
        parts: Sequence[bytes | bytearray] = attachments or [
            inline.encode("utf-8", "surrogatepass")
        ]
        return self.decode(parts, memory_bytes)

    def _pickle(
        self, value: object, stream: Sink, buffers: list[Part], *, plainly: bool = False
    ) -> None:
        def keep(item: pickle.PickleBuffer) -> bool:
            """Keeps small buffers in the pickle itself; a frame's header has no room for many."""
            raw = item.raw()
            if raw.nbytes <= INLINE_CHARS or len(buffers) >= MAX_OWN_PARTS:
                return True
            buffers.append(raw)
            return False

        pending = self._handles.pending()
        _Pickler(stream, keep, self._rules, self._classes, pending, plainly=plainly).dump(value)
        pending.hand_out()  # only now, because all of the value can cross

    def _try(self, value: object, *, plainly: bool) -> None:
        """Pickles a value into a null sink; no handle in it becomes valid."""
        _Pickler(
            NullSink(),
            lambda _: False,
            self._rules,
            self._classes,
            self._handles.pending(),
            plainly=plainly,
        ).dump(value)

    def _find_offender(
        self, value: object, path: str, depth: int = 0, *, plainly: bool
    ) -> tuple[str, object]:
        """Returns the innermost element that cannot be pickled, and its path."""
        if depth < _SEARCH_DEPTH:
            for place, child in self._children(value, path):
                try:
                    self._try(child, plainly=plainly)
                except Exception:  # noqa: BLE001 - a value's own reducer may raise anything
                    return self._find_offender(child, place, depth + 1, plainly=plainly)
        return path, value

    def _children(self, value: object, path: str) -> list[tuple[str, object]]:
        """Returns the parts of a value with their paths; none if its own methods fail."""
        try:
            match self._rules.find(type(value)):
                case ValueType(to_plain=to_plain):
                    return [(path, to_plain(value))]
                case None:
                    return _parts_of(value, path)
        except Exception:  # noqa: BLE001 - its own methods may raise anything
            return []
        return []


def encode(value: object, label: str) -> tuple[str, list[Part]]:
    """Encodes without a session; its names are valid nowhere else."""
    return ValueCodec().encode(value, label)


def decode(parts: Sequence[bytes | bytearray]) -> Any:
    """Decodes without a session: records and enum members come as plain data."""
    return ValueCodec().decode(parts)


def encode_inline(value: object) -> str | None:
    """Returns a small plain JSON value as JSON text; None for other values."""
    if type(value) is str and len(value) <= INLINE_CHARS:
        return encode_basestring_ascii(value)
    if value is None or type(value) in (bool, float):
        return json.dumps(value)
    if type(value) is int and value.bit_length() <= MAX_INT_BITS:
        return json.dumps(value)
    return None


# Common in tables and records; without further checks, for speed.
_UNCHANGED = frozenset({datetime.datetime, datetime.date, datetime.timedelta, Decimal, uuid.UUID})


class _Pickler(pickle.Pickler):
    """Pickles standard types as they are, and the host's own classes as records or handles."""

    def __init__(
        self,
        stream: Sink,
        keep: Callable[[pickle.PickleBuffer], bool],
        rules: Rules,
        classes: Classes,
        handles: Pending,
        *,
        plainly: bool = False,
    ) -> None:
        super().__init__(stream, protocol=5, buffer_callback=keep)
        self._rules = rules
        self._classes = classes
        self._handles = handles
        self._plainly = plainly

    def reducer_override(self, value: Any) -> Any:
        """See `pickle.Pickler`. Called for everything but plain builtins."""
        kind = type(value)
        match self._rules.find(kind):
            case HandleType(preview=preview):
                return self._handles.reduce(value, preview(value) if preview else "")
            case ValueType(to_plain=to_plain):
                return tables.to_plain(to_plain(value))
            case CodeType():
                raise pickle.PicklingError(
                    "Only a variable can be of this type, not a part of a value"
                )
        if kind in _UNCHANGED:
            return NotImplemented
        if (lazy := in_cell(value)) is not None:
            return self._handles.reduce(value, f"{value.name!r}, {value.size}", lazy)
        if (record := self._classes.reduce_value(value)) is not None:
            return record
        if kind is Cells:
            return value.reduced
        if kind is Rows:
            return tables.to_plain(list(value))
        if isinstance(value, PurePath):
            return PurePosixPath, (value.as_posix(),)
        if (plain := _unpicklable(value)) is not value:
            return tables.to_plain(plain)
        if kind is zoneinfo.ZoneInfo and value.key:
            return time_zone, (value.key, zone_data(value.key))
        if (table := tables.reduce(value)) is not None:
            return table
        # Classes and functions are pickled by the names of their module and themselves.
        by_name = isinstance(value, type) or (callable(value) and kind.__module__ == "builtins")
        if by_name and (specification := self._classes.reduce_class(value)) is not None:
            return specification
        module = (getattr(value, "__module__", None) or "builtins") if by_name else kind.__module__
        if is_standard(module) or (by_name and _is_ours(module)) or isinstance(value, Record):
            return NotImplemented
        if self._plainly and not by_name and (plain := plain_base(value)) is not value:
            return tables.to_plain(plain)
        raise pickle.PicklingError("Its class exists on the host only.")


def _unpicklable(value: Any) -> Any:
    """Returns plain data for standard types that cannot be pickled, and for the addresses of Pydantic."""
    if isinstance(value, MappingProxyType):
        return dict(value)
    if isinstance(value, (KeysView, ValuesView, ItemsView)) and is_standard(type(value).__module__):
        return list(value)
    if isinstance(value, memoryview):
        return value.tobytes()
    kind = type(value)
    if kind.__name__ == "Row" and kind.__module__ == "sqlite3":
        return dict(zip(value.keys(), value, strict=True))
    is_address = kind.__module__.startswith(("pydantic.networks", "pydantic_core"))
    return str(value) if is_address and (kind.__name__.endswith(("Url", "Dsn"))) else value


def _is_ours(module: str) -> bool:
    return module.startswith("sandbox_runtime.guest.")


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _advice(value: object) -> str:
    """Returns what to pass instead of a file or an iterator; empty for other values."""
    if isinstance(value, io.TextIOBase):
        return "Pass its text, file.read(), or for a file of any size TextFile(path)."
    if isinstance(value, io.IOBase):
        return "Pass its bytes, file.read(), or for a text file of any size TextFile(path)."
    if isinstance(value, Iterator):
        return "Pass a list of its items, or for pieces of one long text TextStream(pieces)."
    return ""


def _usual_advice(error: Exception) -> str:
    return (
        f"{_reason(error)} Pass text, numbers, lists, dicts or plain records of them, or give the sandbox a "
        "tool that works on it."
    )


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return f"{text}." if text else f"{type(error).__name__}."


def _key_text(key: object) -> str:
    """Returns a key for an error message; only its type for one of a foreign class, which may contain secrets."""
    return f"{key!r:.60}" if type(key) in (str, int, float, bool, bytes) else f"<{_type_name(key)}>"


def _parts_of(value: object, path: str) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        keys = [(f"{path} key {_key_text(key)}", key) for key in value]
        return keys + [(f"{path}[{_key_text(key)}]", item) for key, item in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f"{path}.{n}", item) for n, item in zip(value._fields, value, strict=True)]
    kind: Any = type(value)
    if kind_of(kind) == "record":
        return [(f"{path}.{name}", item) for name, item in fields_of(value).items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"{path}[{at}]", item) for at, item in enumerate(value)]
    if tables.package_of(kind) is not None:
        return tables.parts_of(value, path)
    return []
