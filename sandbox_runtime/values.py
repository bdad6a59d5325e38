"""Values at the host's side of the border: pickles to the sandbox, checked data back.

Towards the sandbox, which is trusted less, values go as UTF-8 text, raw bytes, or a pickle whose
classes all exist there. From the sandbox comes tagged JSON only; `deno/crossing.py` is the other side.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import io
import json
import pickle
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import PurePath, PurePosixPath
from typing import Any

from sandbox_runtime.deno.crossing import INLINE_CHARS, MAX_INT_BITS, Record
from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.messages import Part

# Deeper than anything `crossing.send` produces, far below the recursion limit.
MAX_DEPTH = 400

# Where the search for the element that cannot cross gives up: it only serves an error message.
_SEARCH_DEPTH = 50


def encode(value: object, label: str) -> tuple[str, list[Part]]:
    """The kind and the parts of a value for the sandbox. `label` names it in error messages.

    Raises:
        ValueCrossingError: It holds something that must not or cannot cross, with its place.
    """
    if type(value) is str:
        return "text", [value.encode("utf-8", "surrogatepass")]
    if type(value) is bytes:
        return "bytes", [value]
    buffers: list[Part] = []
    try:
        return "pickle", [_pickle(value, buffers), *buffers]
    except Exception as error:
        place, culprit = _find_offender(value, label)
        raise ValueCrossingError(
            f"{place} is of type {_type_name(culprit)}, which cannot enter the sandbox. "
            f"{_reason(error)} Pass text, numbers, lists, dicts or plain records of them, or give "
            "the sandbox a tool that works on it."
        ) from error


def encode_inline(value: object) -> str | None:
    """A small plain JSON value as JSON text; None for what must travel otherwise."""
    if value is None or type(value) in (bool, float):
        return json.dumps(value)
    if type(value) is int and value.bit_length() <= MAX_INT_BITS:
        return json.dumps(value)
    if type(value) is str and len(value) <= INLINE_CHARS:
        return json.dumps(value)
    return None


def _pickle(value: object, buffers: list[Part]) -> bytes:
    stream = io.BytesIO()

    def keep(item: pickle.PickleBuffer) -> None:
        buffers.append(item.raw())

    _Pickler(stream, protocol=5, buffer_callback=keep).dump(value)
    return stream.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles standard types as they are, and the host's own classes as records."""

    def reducer_override(self, value: Any) -> Any:
        """See `pickle.Pickler`. Called for everything but plain builtins."""
        kind = type(value)
        if isinstance(value, PurePath):
            return PurePosixPath, (value.as_posix(),)
        # Classes and functions travel as the name of their module and their own.
        by_name = isinstance(value, type) or (callable(value) and kind.__module__ == "builtins")
        module = (getattr(value, "__module__", None) or "builtins") if by_name else kind.__module__
        if _is_standard(module) or value is Record:
            return NotImplemented
        if isinstance(value, enum.Enum):
            return Record, (kind.__name__, {"name": value.name, "value": value.value})
        if not by_name and (fields := _fields(value)) is not None:
            # The record first, its fields after: they may refer back to it.
            return Record, (kind.__name__, {}), fields
        raise pickle.PicklingError("Its class exists on the host only.")


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names or module == "builtins"


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of a Pydantic model, dataclass or named tuple; None for anything else."""
    kind = type(value)
    if isinstance(model_fields := getattr(kind, "model_fields", None), dict):
        extra = getattr(value, "__pydantic_extra__", None) or {}
        return {**{name: getattr(value, name) for name in model_fields}, **extra}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, value, strict=True))
    return None


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return f"{text}." if text else f"{type(error).__name__}."


def _find_offender(value: object, path: str, depth: int = 0) -> tuple[str, object]:
    """The path of the innermost element that cannot be pickled, and the element."""
    if depth < _SEARCH_DEPTH:
        for place, child in _children(value, path):
            try:
                _pickle(child, [])
            except Exception:  # noqa: BLE001 - a value's own reducer may raise anything
                return _find_offender(child, place, depth + 1)
    return path, value


def _children(value: object, path: str) -> list[tuple[str, object]]:
    """The parts of a value with their paths; none if it cannot even be asked."""
    try:
        return _parts_of(value, path)
    except Exception:  # noqa: BLE001 - its own methods may raise anything
        return []


def _parts_of(value: object, path: str) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        keys = [(f"{path} key {str(key)[:40]}", key) for key in value]
        return keys + [(f"{path}[{key!r:.60}]", item) for key, item in value.items()]
    if (fields := _fields(value)) is not None:
        return [(f"{path}.{name}", item) for name, item in fields.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"{path}[{at}]", item) for at, item in enumerate(value)]
    return []


# ---- From the sandbox ------------------------------------------------------------------------------


def decode(parts: Sequence[bytes | bytearray]) -> Any:
    """The value that the sandbox sent: plain data, rebuilt from tags, never unpickled.

    Raises:
        ValueCrossingError: The parts are not such a value.
    """
    try:
        if not parts:
            raise ValueError("nothing came")
        return _value(json.loads(parts[0]), parts[1:], 0)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, ArithmeticError) as error:
        raise ValueCrossingError(
            f"The sandbox sent a value that cannot be read: {error}"
        ) from error


def _value(tree: Any, extras: Sequence[bytes | bytearray], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if type(tree) is list:
        return [_value(item, extras, depth + 1) for item in tree]
    if type(tree) is not dict:
        return tree
    if "$" not in tree:
        return {key: _value(item, extras, depth + 1) for key, item in tree.items()}
    kind = tree["$"]
    if kind in ("str", "bytes"):
        data = bytes(extras[_index(tree["at"])])
        return data if kind == "bytes" else data.decode("utf-8", "surrogatepass")
    content = _value(tree["of"], extras, depth + 1)
    if kind == "dict":
        return {_hashable(key): item for key, item in content}
    return _BUILDERS[kind](content)


def _index(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a reference to raw bytes is wrong")
    return value


def _hashable(key: Any) -> Any:
    hash(key)
    return key


def _text(value: object) -> str:
    # A short cap: these types parse slowly, or build huge numbers from short text ("1e999999999").
    if type(value) is not str or len(value) > 4000:
        raise ValueError("a tagged text is wrong")
    return value


def _decimal(content: object) -> Decimal:
    try:
        return Decimal(_text(content))
    except InvalidOperation as error:
        raise ValueError("a decimal is wrong") from error


def _fraction(content: object) -> Fraction:
    top, _, bottom = _text(content).partition("/")
    return Fraction(int(top), int(bottom or "1"))


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "complex": lambda content: complex(*content),
    "datetime": lambda content: datetime.datetime.fromisoformat(_text(content)),
    "date": lambda content: datetime.date.fromisoformat(_text(content)),
    "time": lambda content: datetime.time.fromisoformat(_text(content)),
    "timedelta": lambda content: datetime.timedelta(*content),
    "Decimal": _decimal,
    "Fraction": _fraction,
    "UUID": lambda content: uuid.UUID(_text(content)),
    "Path": lambda content: PurePosixPath(_text(content)),
}


def printable(text: str) -> str:
    """Text of the sandbox without lone surrogates, which no encoding can carry to an LM."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
