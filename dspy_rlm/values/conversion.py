"""How DSPy's own types cross to the sandbox, and how what comes back becomes the declared type."""

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

from sandbox_runtime import CodeType, HandleType, Rows, Rule, ValueType
from sandbox_runtime.helpers import check_making, check_text_effort

T = TypeVar("T")

TypeRules: TypeAlias = Sequence[Rule]

# What can become of rows and lists when an output is declared so.
_PACKAGES = ("pandas", "polars", "pyarrow", "numpy")


# ---- Into the sandbox ------------------------------------------------------------------------------


def type_rules(own: Sequence[Rule] = ()) -> TypeRules:
    """The user's rules, then those for DSPy's types."""
    return (*own, *_DEFAULTS)


def rule_of(value: object, rules: TypeRules) -> Rule | None:
    """The rule by which a value crosses, if there is one."""
    return next((rule for rule in rules if isinstance(value, rule.cls)), None)


def _image_preview(image: dspy.Image) -> str:
    return _source_preview(image.url)


def _audio_preview(audio: dspy.Audio) -> str:
    return f"{audio.audio_format}, {_decoded_bytes(audio.data):,} bytes"


def _file_preview(file: dspy.File) -> str:
    source = _source_preview(file.file_data) if file.file_data else file.file_id or ""
    return ", ".join(part for part in (file.filename, source) if part)


def _source_preview(source: str) -> str:
    """What a data URI holds; another address as it is."""
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
    """As DSPy has it: text where the bytes are text."""
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
)


# ---- Out of the sandbox ----------------------------------------------------------------------------


def convert(value: Any, annotation: Any, rules: TypeRules, parse: Callable[[Any, Any], T]) -> T:
    """The value as the annotation has it.

    A record is an instance of its class first; where another type is declared, it is plain data.

    Args:
        value: What came out of the sandbox.
        annotation: The declared type.
        rules: How values of some types are made of plain data.
        parse: Makes a value of a type, or raises `ValueError` or `TypeError`.
    """
    made = _with_converters(annotation, rules)

    def parsed(value: Any) -> T:
        if isinstance(value, str):
            check_text_effort(annotation, value)
        else:
            check_making(annotation, value)
        try:
            return parse(value, made)
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
    """The value with its records as dicts and its enum members as their values; itself if it has none."""
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
    """The annotation with what the rules, or the packages of tables, know how to make made by them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    cls = annotation if isinstance(annotation, type) and origin is None else origin
    if isinstance(cls, type) and (make := _maker(cls, rules)):
        return Annotated[Any, pydantic.PlainValidator(functools.partial(_instance, cls, make))]
    if origin is None or origin is Annotated or not arguments:
        return annotation
    made = tuple(_with_converters(argument, rules) for argument in arguments)
    if all(map(operator.is_, made, arguments)):
        return annotation
    if origin in (Union, types.UnionType):
        return Union[made]  # noqa: UP007 - of types that are known only now
    return origin[made]


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


def _pandas_frame(value: Any) -> Any:
    return sys.modules["pandas"].DataFrame(value, columns=_columns(value))


def _polars_frame(value: Any) -> Any:
    return sys.modules["polars"].DataFrame(
        list(value) if isinstance(value, Rows) else value,
        schema=None if value else _columns(value),
        infer_schema_length=None,
    )


def _arrow_table(value: Any) -> Any:
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
