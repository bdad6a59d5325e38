"""Types: as one writes them, for whoever reads a prompt or an error message, and what is in them."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from typing import Any, ForwardRef, get_args, get_origin


def annotation_text(annotation: Any) -> str:
    """A type as one writes it: `list[int]`, `datetime.date | None`."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, (str, ForwardRef)):
        return annotation if isinstance(annotation, str) else annotation.__forward_arg__
    if get_origin(annotation) is not None or not isinstance(annotation, type):
        return str(annotation).replace("typing.", "")
    module = annotation.__module__
    shown = module not in ("builtins", "typing") and is_standard(module)
    return f"{module}.{annotation.__qualname__}" if shown else annotation.__qualname__


def is_standard(module: str) -> bool:
    """True for the name of a module of the standard library."""
    return module.partition(".")[0] in sys.stdlib_module_names


def is_typed_dict(cls: Any) -> bool:
    """True for a typed dict, also for one of `typing_extensions`, which `typing` does not know."""
    return isinstance(cls, type) and hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")


def field_types(cls: Any) -> dict[str, Any]:
    """The fields of a Pydantic model, dataclass, named tuple or typed dict, with their types."""
    if isinstance(fields := getattr(cls, "model_fields", None), dict):
        return {name: field.annotation for name, field in fields.items()}
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    elif is_typed_dict(cls):
        names = list(cls.__annotations__)
    else:
        names = list(getattr(cls, "_fields", ()))
    try:
        notes = typing.get_type_hints(cls) if names else {}
    except (NameError, TypeError, SyntaxError):  # annotations that name what is not there
        notes = getattr(cls, "__annotations__", {})
    return {name: notes.get(name, Any) for name in names}


def classes_in(*annotations: Any) -> list[type]:
    """The classes in some types that are not of the standard library, and those in their fields."""
    found: dict[type, None] = {}
    for annotation in annotations:
        for cls in _classes_in(annotation, found):
            found[cls] = None
    return list(found)


def _classes_in(annotation: Any, found: dict[type, None]) -> Iterator[type]:
    if get_origin(annotation) is not None:
        for part in get_args(annotation):
            yield from _classes_in(part, found)
    elif (
        isinstance(annotation, type)
        and annotation not in found
        and not is_standard(annotation.__module__)
    ):
        found[annotation] = None
        yield annotation
        for part in field_types(annotation).values():
            yield from _classes_in(part, found)
