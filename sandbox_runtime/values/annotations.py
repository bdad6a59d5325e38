"""Type annotations: their text for prompts and error messages, and the classes in them."""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, ForwardRef, TypeVar, get_args, get_origin

T = TypeVar("T")

# Modules whose names are written alone.
_BARE = ("builtins", "typing", "collections.abc")


def cached_by_type(find: Callable[[Any], T]) -> Callable[[Any], T]:
    """Remembers what a function finds out about a type. Types that cannot be hashed are examined each time."""
    cached = functools.lru_cache(maxsize=1024)(find)

    @functools.wraps(find)
    def look_up(annotation: Any) -> T:
        try:
            return cached(annotation)
        except TypeError:  # an unhashable type
            return find(annotation)

    return look_up


def annotation_text(annotation: Any) -> str:
    """Returns a type as it is written in code: `list[int]`, `datetime.date | None`."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, (str, ForwardRef)):
        return annotation if isinstance(annotation, str) else annotation.__forward_arg__
    if isinstance(annotation, (typing.TypeVar, typing.NewType)):
        return annotation.__name__
    if get_origin(annotation) is not None:
        return _generic_text(annotation)
    if not isinstance(annotation, type):
        text = str(annotation).replace("typing.", "")
        return text.replace("~", "") if getattr(annotation, "__parameters__", ()) else text
    module = annotation.__module__
    name = annotation.__qualname__.rpartition("<locals>.")[2]
    return f"{module}.{name}" if is_standard(module) and module not in _BARE else name


def _generic_text(annotation: Any) -> str:
    """Returns a type with parameters as text, with plain names of classes also inside."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return annotation_text(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(annotation_text, inner))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(_literal, inner))}]"
    is_plain = isinstance(origin, type) and origin.__name__ != "Callable"
    if not is_plain or not inner:
        return str(annotation).replace("typing.", "").replace("collections.abc.", "")
    parts = ", ".join("..." if part is ... else annotation_text(part) for part in inner)
    return f"{annotation_text(origin)}[{parts}]"


def _literal(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


def is_standard(module: str) -> bool:
    """Returns whether a module belongs to the standard library."""
    return module.partition(".")[0] in sys.stdlib_module_names


def is_typed_dict(cls: Any) -> bool:
    """Returns whether a class is a typed dict, also of `typing_extensions`, which `typing` does not detect."""
    return isinstance(cls, type) and hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")


def field_types(cls: Any) -> dict[str, Any]:
    """Returns the fields of a Pydantic model, dataclass, attrs class, named tuple or typed dict, with their types."""
    if isinstance(fields := getattr(cls, "model_fields", None), dict):
        return {name: field.annotation for name, field in fields.items()}
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    elif isinstance(attributes := getattr(cls, "__attrs_attrs__", None), tuple):
        names = [field.name for field in attributes]
    elif is_typed_dict(cls):
        names = list(cls.__annotations__)
    else:
        names = list(getattr(cls, "_fields", ()))
    try:
        notes = typing.get_type_hints(cls) if names else {}
    except (NameError, TypeError, SyntaxError):  # annotations with undefined names
        notes = getattr(cls, "__annotations__", {})
    return {name: notes.get(name, Any) for name in names}


def types_in(annotation: Any) -> Iterator[Any]:
    """Yields the type, and those that it and the fields of its classes consist of, each once."""
    visited: set[str] = set()
    waiting = [annotation]
    while waiting:
        part = waiting.pop()
        if (name := f"{part!r} {id(part) if isinstance(part, type) else ''}") not in visited:
            visited.add(name)
            yield part
            waiting += _parts_of(part)


def _parts_of(annotation: Any) -> Iterator[Any]:
    """Yields the types that a type consists of: its arguments, or the fields of its class."""
    if isinstance(annotation, typing.NewType):
        yield annotation.__supertype__
    elif "TypeAliasType" in (type(annotation).__name__, type(get_origin(annotation)).__name__):
        alias = annotation if get_origin(annotation) is None else get_origin(annotation)
        yield alias.__value__
        yield from get_args(annotation)
    elif inner := get_args(annotation):
        yield from (part for part in inner if not isinstance(part, list))
        if isinstance(origin := get_origin(annotation), type):  # a generic class
            yield from field_types(origin).values()
    elif isinstance(annotation, type):
        yield from field_types(annotation).values()


def classes_in(*annotations: Any) -> list[type]:
    """Returns the classes in some types, except those of the standard library, and the classes of their fields."""
    classes: dict[type, None] = {}
    for annotation in annotations:
        for cls in _classes_in(annotation, classes):
            classes[cls] = None
    return list(classes)


def _classes_in(annotation: Any, classes: dict[type, None]) -> Iterator[type]:
    if get_origin(annotation) is not None:
        for part in get_args(annotation):
            yield from _classes_in(part, classes)
    elif (
        isinstance(annotation, type)
        and annotation not in classes
        and not is_standard(annotation.__module__)
    ):
        classes[annotation] = None
        yield annotation
        for part in field_types(annotation).values():
            yield from _classes_in(part, classes)
