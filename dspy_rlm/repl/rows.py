"""The rows of a batch: their inputs by name, and a key that equal rows share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
import pydantic

from dspy_rlm.signatures.fields import defaults_of
from dspy_rlm.signatures.inputs import check_inputs
from dspy_rlm.values.conversion import TypeRules, to_plain


def row_inputs(
    signature: type[dspy.Signature], row: Any, shared: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the inputs of a row: its own by name, or the row as the value of the only remaining input."""
    remaining = [name for name in signature.input_fields if name not in shared]
    fields = row if isinstance(row, Mapping) else _fields(row)
    if fields is not None and (len(remaining) != 1 or remaining[0] in fields):
        return {**shared, **fields}
    if isinstance(row, Mapping) and signature.input_fields[remaining[0]].annotation is str:
        return {**shared, **row}  # a dict is not text; the error is about its names
    return {**shared, remaining[0]: row} if len(remaining) == 1 else {**shared, "row": row}


def refuse_if_none_fits(
    rules: TypeRules, signature: type[dspy.Signature], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Raises `InputError` if no row has the inputs: a mistake that all rows share costs one error, not one each."""
    fields = signature.input_fields
    needed = {name for name in fields if name not in defaults_of(fields)}
    if rows and not any(needed <= row.keys() <= fields.keys() for row in rows):
        check_inputs(signature, rows[0], rules)


def _fields(row: Any) -> Mapping[str, Any] | None:
    """Returns the fields of a record; None for other values."""
    if isinstance(row, pydantic.BaseModel) and not isinstance(row, dspy.Type):
        return dict(row)
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return None


def key_of(value: Any) -> Any:
    """Returns a key that equal inputs share: the identity, for a value that stays on the host."""
    if isinstance(value, dspy.Type):
        return id, id(value)
    value = to_plain(value)
    if isinstance(value, Mapping):
        return dict, tuple((key_of(name), key_of(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(key_of, value))
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(key_of, value))
    try:
        hash(value)
    except TypeError:
        return object()  # not equal to any other row
    return type(value), value
