"""The rows of a batch: their inputs by name, and a key that equal rows share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
import pydantic

from dspy_rlm.errors import InputError
from dspy_rlm.signatures.fields import defaults_of
from dspy_rlm.signatures.inputs import MAX_LISTED_CHARS, check_inputs
from dspy_rlm.values.conversion import TypeRules, to_plain
from sandbox_runtime.helpers import abridged, annotation_text


class Unfit(dict[str, Any]):
    """Inputs of a row that is neither a dict of them, nor their values in order."""


def row_inputs(
    signature: type[dspy.Signature], row: Any, shared: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the inputs of a row: by name, in order, or the row as the value of the only remaining input."""
    remaining = [name for name in signature.input_fields if name not in shared]
    fields = row if isinstance(row, Mapping) else _fields(row)
    if fields is not None and (len(remaining) != 1 or remaining[0] in fields):
        return {**shared, **fields}
    if isinstance(row, Mapping) and signature.input_fields[remaining[0]].annotation is str:
        return {**shared, **row}  # a dict is not text; the error is about its names
    if len(remaining) == 1:
        return {**shared, remaining[0]: row}
    if isinstance(row, (tuple, list)) and len(row) == len(remaining):
        return {**shared, **dict(zip(remaining, row, strict=True))}
    return Unfit(shared, row=row)


def refuse_unfit(
    signature: type[dspy.Signature], inputs: Mapping[str, Any], shared: Mapping[str, Any]
) -> None:
    """Raises `InputError` for the inputs of a row that do not have the form of a row."""
    if not isinstance(inputs, Unfit):
        return
    row = inputs["row"]
    size = f" of {len(row)}" if isinstance(row, (tuple, list)) else ""
    fields = {n: f for n, f in signature.input_fields.items() if n not in shared}
    if not fields:
        raise InputError(
            f"this row is a {type(row).__name__}{size}, but all inputs are already passed by keyword. Leave "
            "the keyword out of which the rows are the values."
        )
    listed = ", ".join(f"{n}: {annotation_text(f.annotation)}" for n, f in fields.items())
    keys = ", ".join(f"{name!r}: ..." for name in fields)
    raise InputError(
        f"this row is a {type(row).__name__}{size}, but the inputs are {abridged(listed, MAX_LISTED_CHARS)}. "
        f"Pass each row as a dict, {{{abridged(keys, MAX_LISTED_CHARS)}}}, or as a tuple of {len(fields)} values "
        "in this order."
    )


def refuse_if_none_fits(
    rules: TypeRules,
    signature: type[dspy.Signature],
    rows: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Any],
) -> None:
    """Raises `InputError` if no row has the inputs: a mistake that all rows share costs one error, not one each."""
    fields = signature.input_fields
    needed = {name for name in fields if name not in defaults_of(fields)}
    if rows and not any(
        needed <= row.keys() <= fields.keys() and not isinstance(row, Unfit) for row in rows
    ):
        refuse_unfit(signature, rows[0], shared)
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
