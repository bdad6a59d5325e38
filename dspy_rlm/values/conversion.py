"""Converts DSPy's types for the sandbox, and values from the sandbox to the declared types."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin

import dspy
import pydantic

from dspy_rlm.values.answers import Answer, crossing
from sandbox_runtime import CodeType, HandleType, Rows, Rule, ValueType
from sandbox_runtime.helpers import (
    MAX_TABLE_CELLS,
    TABLE_CELLS_PER_ENTRY,
    bounded_flags,
    check_exponents,
    check_making,
    check_text_effort,
)

T = TypeVar("T")

TypeRules: TypeAlias = Sequence[Rule]

# The types of tables and arrays that rows and lists are converted to when an output declares them.
_PACKAGES = ("pandas", "polars", "pyarrow", "numpy")


# ---- Into the sandbox ------------------------------------------------------------------------------


def type_rules(own: Sequence[Rule] = ()) -> TypeRules:
    """Returns the user's rules, followed by those for DSPy's types."""
    return (*own, *_DEFAULTS)


def rule_of(value: object, rules: TypeRules) -> Rule | None:
    """Returns the rule for the type of a value, if there is one."""
    return next((rule for rule in rules if isinstance(value, rule.cls)), None)


def _image_preview(image: dspy.Image) -> str:
    return _source_preview(image.url)


def _audio_preview(audio: dspy.Audio) -> str:
    return f"{audio.audio_format}, {_decoded_bytes(audio.data):,} bytes"


def _file_preview(file: dspy.File) -> str:
    source = _source_preview(file.file_data) if file.file_data else file.file_id or ""
    return ", ".join(part for part in (file.filename, source) if part)


def _source_preview(source: str) -> str:
    """Decodes a data URI; returns any other address unchanged."""
    head, comma, data = source.partition(",")
    if not head.startswith("data:") or not comma:
        return source
    kind = head.removeprefix("data:").partition(";")[0]
    return f"{kind.rpartition('/')[2]}, {_decoded_bytes(data):,} bytes"


def _decoded_bytes(data: str) -> int:
    return len(data) * 3 // 4 - data[-2:].count("=")


def _example_fields(example: dspy.Example) -> dict[str, Any]:
    return dict(example.items())


def _payload(value: dspy.SandboxSerializable) -> str | bytes:
    """Returns text where the bytes are text, as DSPy does."""
    payload = value.to_sandbox()
    if not isinstance(payload, bytes):
        return str(payload)
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload


def _code(value: dspy.SandboxSerializable, name: str, data_name: str) -> str:
    return f"{value.sandbox_setup()}\n{value.sandbox_assignment(name, data_name)}"


_DEFAULTS: tuple[Rule, ...] = (
    CodeType(dspy.SandboxSerializable, _payload, _code),
    HandleType(dspy.Image, _image_preview),
    HandleType(dspy.Audio, _audio_preview),
    HandleType(dspy.File, _file_preview),
    ValueType(dspy.Example, _example_fields),
    ValueType(Answer, crossing),
)


# ---- Out of the sandbox ----------------------------------------------------------------------------


def convert(value: Any, annotation: Any, rules: TypeRules, parse: Callable[[Any, Any], T]) -> T:
    """Converts a value to the annotated type.

    A record becomes an instance of its class if it matches, and plain data where another type is declared.

    Args:
        value: The value from the sandbox.
        annotation: The declared type.
        rules: How to build values of some types from plain data.
        parse: Converts a value to a type, or raises `ValueError` or `TypeError`.
    """
    converted = _with_converters(annotation, rules)

    def parsed(value: Any) -> T:
        if isinstance(value, str):
            check_text_effort(annotation, value)
        else:
            check_making(annotation, value)
        try:
            with bounded_flags(annotation):
                result = parse(value, converted)
            check_exponents(annotation, result)
            return result
        except (ArithmeticError, RecursionError, MemoryError) as error:
            raise ValueError(f"it cannot be converted: {error or type(error).__name__}") from error

    try:
        return parsed(value)
    except (ValueError, TypeError):
        plain = to_plain(value)
        if plain is value:
            raise
        try:
            return parsed(plain)
        except (ValueError, TypeError):
            pass
        raise


def to_plain(value: Any) -> Any:
    """Converts records to dicts and enum members to their values; returns the value itself if it has none."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, pydantic.BaseModel):
        return {name: to_plain(item) for name, item in value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        items = tuple(map(to_plain, value))
        return value if type(value) is tuple and all(map(operator.is_, items, value)) else items
    if type(value) in (list, Rows):
        listed = list(map(to_plain, value))
        return value if all(map(operator.is_, listed, value)) else listed
    if type(value) is dict:
        named = {key: to_plain(item) for key, item in value.items()}
        return value if all(map(operator.is_, named.values(), value.values())) else named
    return value


def _with_converters(annotation: Any, rules: TypeRules) -> Any:
    """Adds converters to the annotation for the types that have a rule and for tables and arrays."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    cls = annotation if isinstance(annotation, type) and origin is None else origin
    if isinstance(cls, type) and (make := _maker(cls, rules)):
        return Annotated[Any, pydantic.PlainValidator(functools.partial(_instance, cls, make))]
    if origin is None or origin is Annotated or not arguments:
        return annotation
    converted = tuple(_with_converters(argument, rules) for argument in arguments)
    if all(map(operator.is_, converted, arguments)):
        return annotation
    if origin in (Union, types.UnionType):
        return Union[converted]  # noqa: UP007 - the types are known at run time only
    return origin[converted]


def _instance(cls: type, make: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, cls):
        return value
    try:
        return make(value)
    except Exception as error:
        raise ValueError(f"it cannot become a {cls.__name__}: {error}") from error


def _maker(cls: type, rules: TypeRules) -> Callable[[Any], Any] | None:
    for rule in rules:
        if issubclass(cls, rule.cls):
            return rule.from_plain if isinstance(rule, ValueType) else None
    package = cls.__module__.partition(".")[0]
    if package not in _PACKAGES:
        return None
    return _MAKERS.get((package, cls.__name__))


def _columns(value: Any) -> list[Any] | None:
    return list(value.columns) if isinstance(value, Rows) else None


def _check_cells(value: Any) -> None:
    """Raises `ValueError` if a table would be mostly empty, or mostly copies, and far larger than the value.

    Rows that each have a column of their own make a table of as many columns as rows; so do columns of which one is long.
    """
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(parts, (list, tuple)):
        return
    names: set[Any] = set(_columns(value) or ())
    entries = longest = 0
    for part in parts:
        if isinstance(part, Mapping):
            names.update(part)
        if isinstance(part, (Mapping, list, tuple)):
            entries += len(part)
            longest = max(longest, len(part))
    cells = len(parts) * max(len(names), longest)
    most = MAX_TABLE_CELLS + TABLE_CELLS_PER_ENTRY * entries
    if cells > most:
        raise ValueError(
            f"the table would have {cells:,} cells for {entries:,} entries, more than {most:,}. Give the rows the same "
            "columns, or make rows of (row, column, value)"
        )


def _pandas_frame(value: Any) -> Any:
    _check_cells(value)
    return sys.modules["pandas"].DataFrame(value, columns=_columns(value))


def _polars_frame(value: Any) -> Any:
    _check_cells(value)
    return sys.modules["polars"].DataFrame(
        list(value) if isinstance(value, Rows) else value,
        schema=None if value else _columns(value),
        infer_schema_length=None,
    )


def _arrow_table(value: Any) -> Any:
    _check_cells(value)
    table = sys.modules["pyarrow"].table
    if isinstance(value, Mapping):
        return table(dict(value))
    names = _columns(value) or list(dict.fromkeys(name for row in value for name in row))
    return table({name: [row.get(name) for row in value] for name in names})


_MAKERS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("pandas", "DataFrame"): _pandas_frame,
    ("pandas", "Series"): lambda value: sys.modules["pandas"].Series(value),
    ("polars", "DataFrame"): _polars_frame,
    ("polars", "Series"): lambda value: sys.modules["polars"].Series(value),
    ("pyarrow", "Table"): _arrow_table,
    ("numpy", "ndarray"): lambda value: sys.modules["numpy"].asarray(value),
}
