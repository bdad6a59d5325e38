"""The columns of a job's result: the same for every row and every part, from the types of the signature.

A schema that is inferred from rows changes with them: a column that is empty in the first part has another type in the next.
"""

from __future__ import annotations

import datetime
import types
import typing
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin

import orjson
import pydantic

# The columns beside the outputs, with their types.
OWN_COLUMNS: Mapping[str, str] = {
    "key": "string",
    "status": "string",
    "error": "string",
    "cost": "double",
    "llm_calls": "int64",
    "iterations": "int64",
    "seconds": "double",
    "attempts": "int64",
}
_BEFORE = ("key", "status", "error")

_PLAIN = {str: "string", int: "int64", float: "float64", bool: "bool_", bytes: "binary"}

_LEAST, _MOST = -(2**63), 2**63 - 1


def own_name(name: str, outputs: typing.Iterable[str]) -> str:
    """Returns the name of one of our columns: with a prefix where the signature has an output of that name."""
    return f"run_{name}" if name in outputs else name


def record_of_line(line: Mapping[str, Any], outputs: typing.Sequence[str]) -> dict[str, Any]:
    """Returns a row of the result from its line in the journal, flat, with all columns."""
    values = line.get("outputs") or {}
    own = {own_name(name, outputs): line.get(name) for name in OWN_COLUMNS}
    first = {own_name(name, outputs): own[own_name(name, outputs)] for name in _BEFORE}
    return {**first, **{name: values.get(name) for name in outputs}, **own}


def arrow_schema(signature: Any) -> Any:
    """Returns the Arrow schema of the result. Needs pyarrow."""
    pa = import_module("pyarrow")
    outputs = list(signature.output_fields)
    own = {
        own_name(name, outputs): getattr(pa, kind.replace("double", "float64"))()
        for name, kind in OWN_COLUMNS.items()
    }
    fields = {own_name(name, outputs): own[own_name(name, outputs)] for name in _BEFORE}
    fields |= {
        name: arrow_type(field.annotation) for name, field in signature.output_fields.items()
    }
    return pa.schema(list({**fields, **own}.items()))


def arrow_type(annotation: Any) -> Any:
    """Returns the Arrow type of an output. What has none of its own is JSON in a string."""
    pa = import_module("pyarrow")
    if annotation in _PLAIN:
        return getattr(pa, _PLAIN[annotation])()
    if annotation in (datetime.date, datetime.datetime):
        return pa.string()  # as JSON has them
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        kinds = {type(argument) for argument in arguments}
        return arrow_type(kinds.pop()) if len(kinds) == 1 else pa.string()
    if origin in (Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return arrow_type(rest[0]) if len(rest) == 1 else pa.string()
    if origin in (list, set, frozenset) and arguments:
        return pa.list_(arrow_type(arguments[0]))
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return pa.list_(arrow_type(arguments[0]))
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        fields = annotation.model_fields
        if fields and not _is_recursive(annotation):
            return pa.struct(
                [(name, arrow_type(field.annotation)) for name, field in fields.items()]
            )
    return pa.string()


def _is_recursive(model: type[pydantic.BaseModel]) -> bool:
    """Returns whether a model refers to itself: then it has no finite Arrow type."""
    schema = model.model_json_schema()
    text = orjson.dumps(schema.get("$defs", {})).decode()
    return "$ref" in schema or f'"#/$defs/{model.__name__}"' in text


def fitted(value: Any, kind: Any) -> Any:
    """Returns a value of JSON as its column holds it. Raises `ValueError` if it does not fit."""
    pa = import_module("pyarrow")
    if value is None:
        return None
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            raise ValueError("it is no list")
        return [fitted(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        if not isinstance(value, Mapping):
            raise ValueError("it is no record")
        return {field.name: fitted(value.get(field.name), field.type) for field in kind}
    if pa.types.is_string(kind):
        return _valid(
            value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        )
    if pa.types.is_binary(kind):
        return str(value).encode("utf-8", "replace")
    if pa.types.is_integer(kind):
        if type(value) is not int or not _LEAST <= value <= _MOST:
            raise ValueError("it is no integer of 64 bits")
        return value
    if pa.types.is_floating(kind):
        return float(value)
    if type(value) is not bool:
        raise ValueError("it is neither true nor false")
    return value


def _valid(text: str) -> str:
    """Returns text that UTF-8 can hold: a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
