"""Binds the arguments of a SUBMIT call to the outputs of a run, one for each field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Fields = Sequence[dict[str, str]]
"""The fields of SUBMIT in order, each with its `name` and its `type` as text."""

OPTIONAL = " = ..."
"""The end of the type of a field that may be left out."""


def bind_submit(
    outputs: Fields | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Returns the outputs of a SUBMIT call: by position, by keyword, or as one dict of all, whatever its keyword.

    Optional outputs may be missing.

    Raises:
        TypeError: A field is missing, unknown or passed twice.
    """
    if outputs is None:
        if args and (kwargs or len(args) > 1):
            raise TypeError("SUBMIT() takes one value, or the outputs by name")
        return {"output": args[0]} if args else kwargs
    names = [field["name"] for field in outputs]
    required = _required(outputs)
    if len(args) == 1 and not kwargs and _has_all(args[0], outputs):
        return dict(args[0])
    if (
        len(kwargs) == 1 < len(names)
        and not args
        and _has_all(next(iter(kwargs.values())), outputs)
    ):
        return dict(next(iter(kwargs.values())))
    values = dict(zip(names, args, strict=False))
    problems = [f"takes {len(names)} values, got {len(args)}"] if len(args) > len(names) else []
    problems += [f"has no field {name!r}" for name in kwargs if name not in names]
    problems += [f"got {name!r} twice" for name in kwargs if name in values]
    values.update(kwargs)
    problems += [
        f"is missing {name!r}" for name in names if name in required and name not in values
    ]
    if problems:
        raise TypeError(f"SUBMIT() {', '.join(problems)}. Call {submit_usage(outputs)}.")
    return {name: values[name] for name in names if name in values}


def _has_all(value: Any, outputs: Fields) -> bool:
    """Returns whether a value is a dict of all outputs, and not the value of the only one."""
    names = {field["name"] for field in outputs}
    if not isinstance(value, dict) or not value or not _required(outputs) <= set(value) <= names:
        return False
    (only,) = outputs if len(outputs) == 1 else ({"type": ""},)
    takes_dict = only["type"].startswith(("dict", "Dict", "Mapping"))
    return not takes_dict or isinstance(next(iter(value.values())), dict)


def _required(outputs: Fields) -> set[str]:
    """Returns the names of the fields that may not be left out."""
    return {field["name"] for field in outputs if not field["type"].endswith(OPTIONAL)}


def submit_usage(outputs: Fields | None) -> str:
    """Returns the signature of SUBMIT, with the type of each field."""
    if outputs is None:
        return "SUBMIT(output)"
    return f"SUBMIT({', '.join(field['name'] + ': ' + field['type'] for field in outputs)})"
