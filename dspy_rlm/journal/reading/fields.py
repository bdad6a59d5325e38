"""The events of a journal as they are read: each field checked, since a file may be anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_rlm.journal.packing import as_ref
from dspy_rlm.journal.records import (
    AttemptRecord,
    CellOutcome,
    ErrorRecord,
    FieldRecord,
    Reader,
    SignatureRecord,
    Text,
    ValueKind,
    ValueRecord,
)

Event = Mapping[str, Any]

_OUTCOMES: dict[str, CellOutcome] = {
    "completed": "completed",
    "submitted": "submitted",
    "failed": "failed",
}
_KINDS: dict[str, ValueKind] = {
    "text": "text",
    "json": "json",
    "bytes": "bytes",
    "npy": "npy",
    "parquet": "parquet",
    "file": "file",
    "directory": "directory",
    "not_stored": "not_stored",
}


class InvalidEventError(ValueError):
    """An event lacks a field, or has one of another type."""


def string(event: Event, name: str, default: str | None = None) -> str:
    """Returns a text that is always short."""
    value = event.get(name, default)
    if not isinstance(value, str):
        raise InvalidEventError(f"{name} is no text")
    return value


def optional_string(event: Event, name: str) -> str | None:
    """Returns a text; None if there is none."""
    return None if event.get(name) is None else string(event, name)


def number(event: Event, name: str, default: float | None = None) -> float:
    """Returns a number."""
    value = event.get(name, default)
    if type(value) not in (int, float):
        raise InvalidEventError(f"{name} is no number")
    return float(value)


def optional_number(event: Event, name: str) -> float | None:
    """Returns a number; None if there is none."""
    return None if event.get(name) is None else number(event, name)


def count(event: Event, name: str) -> int | None:
    """Returns an integer that is not negative; None if there is none."""
    value = event.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidEventError(f"{name} is no count")
    return value


def mapping(event: Event, name: str) -> Mapping[str, Any]:
    """Returns an object; an empty one if there is none."""
    value = event.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidEventError(f"{name} is no object")
    return value


def items(event: Event, name: str) -> list[Any]:
    """Returns a list; an empty one if there is none."""
    value = event.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidEventError(f"{name} is no list")
    return value


def text(event: Event, name: str, reader: Reader, default: str | None = "") -> Text:
    """Returns a text, or the reference to a long one."""
    value = event.get(name, default)
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "$value" in value:
        return as_ref(value, reader)
    raise InvalidEventError(f"{name} is no text")


def error_of(event: Event, reader: Reader) -> ErrorRecord | None:
    """Returns the error of an event; None if there is none."""
    error = mapping(event, "error")
    if not error:
        return None
    return ErrorRecord(
        string(error, "type"), text(error, "message", reader), count(error, "status")
    )


def reserved_of(event: Event) -> tuple[float, float]:
    """Returns the tokens and dollars that were reserved for a request."""
    amounts = [float(n) for n in items(event, "reserved") if type(n) in (int, float)]
    if len(amounts) != 2:
        raise InvalidEventError("reserved is no pair of numbers")
    return amounts[0], amounts[1]


def attempt_of(
    event: Event, reader: Reader, reserved: tuple[float, float] | None = None
) -> AttemptRecord:
    """Returns the record of an attempt."""
    chars = [n if type(n) is int else 0 for n in items(event, "chars")][:3]
    chars += [0] * (3 - len(chars))
    replayed = [float(n) for n in items(event, "replayed") if type(n) in (int, float)]
    error = text(event, "error", reader)
    return AttemptRecord(
        started_at=number(event, "started", 0.0),
        seconds=number(event, "seconds", 0.0),
        error=error if isinstance(error, str) else error.read(),
        cached=event.get("cached") is True,
        input_tokens=count(event, "in"),
        output_tokens=count(event, "out"),
        cost=optional_number(event, "cost"),
        chars_in=chars[0],
        chars_out=chars[1],
        reply_bytes=chars[2],
        discounted=event.get("discounted") is True,
        replayed=(replayed[0], replayed[1]) if len(replayed) == 2 else None,
        was_cut=event.get("cut") is True,
        refusal=text(event, "refusal", reader),
        is_final=event.get("again") is not True,
        reserved=reserved,
    )


def outcome_of(event: Event) -> CellOutcome:
    """Returns the outcome of a cell."""
    outcome = _OUTCOMES.get(string(event, "outcome"))
    if outcome is None:
        raise InvalidEventError("there is no such outcome of a cell")
    return outcome


def value_of(fields: Any, reader: Reader) -> ValueRecord:
    """Returns the record of a value."""
    if not isinstance(fields, dict):
        raise InvalidEventError("a value is no object")
    kind = _KINDS.get(string(fields, "kind"))
    if kind is None:
        raise InvalidEventError("there is no such kind of value")
    return ValueRecord(
        kind=kind,
        annotation=string(fields, "annotation", ""),
        type=string(fields, "type", ""),
        digest=string(fields, "digest", ""),
        size=count(fields, "size") or 0,
        data=None if fields.get("data") is None else text(fields, "data", reader),
        path=string(fields, "path", ""),
        modified_at=optional_number(fields, "mtime"),
        options=mapping(fields, "options"),
        note=string(fields, "note", ""),
    )


def values_of(fields: Mapping[str, Any], reader: Reader) -> dict[str, ValueRecord]:
    """Returns the records of values by name."""
    return {name: value_of(value, reader) for name, value in fields.items()}


def signature_of(event: Event, reader: Reader) -> SignatureRecord:
    """Returns the signature of a run."""
    fields = mapping(event, "signature")
    instructions = text(fields, "instructions", reader)
    return SignatureRecord(
        instructions if isinstance(instructions, str) else instructions.read(),
        tuple(_field(field, reader) for field in items(fields, "inputs")),
        tuple(_field(field, reader) for field in items(fields, "outputs")),
    )


def _field(field: Any, reader: Reader) -> FieldRecord:
    if not isinstance(field, dict):
        raise InvalidEventError("a field is no object")
    description = text(field, "description", reader)
    return FieldRecord(
        string(field, "name"),
        string(field, "annotation", ""),
        description if isinstance(description, str) else description.read(),
    )
