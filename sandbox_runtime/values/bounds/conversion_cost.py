"""Estimates the work of converting a value to a type, before the conversion.

Pydantic tries every alternative of a union, down to the leaves. Where unions are nested (`A` and `B` that both have a field
`A | B`), each level of a value multiplies the work, and nothing can interrupt it: a value of fifty levels, a few hundred
characters, takes practically forever. The tries are counted here without making them. Repeated subproblems are counted
once (memoization), so counting is fast where trying is not.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias, Union, cast, get_args, get_origin

from sandbox_runtime.host_costs import MAX_TRIES, TRIES_PER_PART
from sandbox_runtime.values.annotations import cached_by_type, field_types

_BRACKET = re.compile(r"[\[\](){}]")

_LISTS = (list, tuple, set, frozenset)


class EffortError(ValueError):
    """Converting a value to a type would take too much work."""


def check_effort(annotation: Any, value: Any) -> None:
    """Raises `EffortError` if validating the value against the type would take too many tries."""
    if not _multiplies(annotation):
        return
    counter = _Counter()
    try:
        tries = counter.tries(annotation, value)
    except RecursionError:
        raise EffortError("it is nested too deeply") from None
    most = MAX_TRIES + TRIES_PER_PART * counter.parts
    if tries > most:
        raise EffortError(
            f"its type has unions in unions, and validating a value nested like this one would take more than "
            f"{most:,} tries. Nest it less, or use a discriminated union"
        )


def check_text_effort(annotation: Any, text: str) -> None:
    """Does the same for a text that a value will be parsed from, by the nesting of its brackets alone."""
    fork = _multiplies(annotation)
    if not fork:
        return
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "[{(" else -1
        deepest = max(deepest, depth)
    if fork**deepest > MAX_TRIES:
        raise EffortError(
            f"it is nested {deepest} levels deep, too many for a type with unions in unions"
        )


@cached_by_type
def _multiplies(annotation: Any) -> int:
    """Returns the number of alternatives with parts of a union nested in another; 0 without such a union."""
    graph: dict[Any, list[Any]] = {}
    waiting = [plain_annotation(annotation)]
    while waiting:
        node = waiting.pop()
        if (key := annotation_key(node)) not in graph:
            graph[key] = inner_types = [
                inner for inner in parts_of_type(node) if not _is_leaf(inner)
            ]
            waiting += inner_types
    forks = {key for key, inner in graph.items() if is_union(key[1]) and len(inner) > 1}
    below: set[Any] = set()
    waiting = [part for key in forks for part in graph[key]]
    while waiting:
        if (key := annotation_key(waiting.pop())) not in below:
            below.add(key)
            waiting += graph[key]
    return max((len(graph[key]) for key in forks & below), default=0)


def annotation_key(annotation: Any) -> Any:
    """Returns a key for dicts: equal for equal types, also if a type cannot be hashed."""
    try:
        hash(annotation)
    except TypeError:
        return id(annotation), annotation.__class__
    return None, annotation


def is_union(annotation: Any) -> bool:
    """Returns whether the type is a union, of either notation."""
    return get_origin(annotation) in (Union, types.UnionType)


def _is_leaf(annotation: Any) -> bool:
    """Returns whether a type has no parts: a try of it costs the same for any value."""
    return not any(True for _ in parts_of_type(annotation))


def plain_annotation(annotation: Any) -> Any:
    """Returns the type without annotations, and with aliases resolved."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = _alias_target(annotation)
        elif type(get_origin(annotation)).__name__ == "TypeAliasType":
            annotation = _alias_target(get_origin(annotation))
        elif type(annotation).__name__ == "PydanticRecursiveRef":
            annotation = _generic_class(annotation.type_ref)
        elif get_origin(annotation) in (typing.Required, typing.NotRequired, typing.ClassVar):
            annotation = get_args(annotation)[0]
        else:
            return annotation


@functools.lru_cache(maxsize=1024)
def _alias_target(alias: Any) -> Any:
    """Returns the target of an alias, even of one written as text in order to refer to itself."""

    def holder() -> None: ...

    holder.__annotations__ = {"meaning": alias.__value__}
    module = sys.modules.get(alias.__module__)
    try:
        names = {**vars(typing), **(vars(module) if module else {})}
        return typing.get_type_hints(holder, names, {alias.__name__: alias})["meaning"]
    except (NameError, TypeError, SyntaxError):
        return Any


@functools.lru_cache(maxsize=1024)
def _generic_class(reference: str) -> Any:
    """Returns the generic class of a reference to itself, `module.Name:id[argument:id]`."""
    import pydantic  # imported lazily, to keep the start of a session fast

    match: Any = Any
    waiting: list[Any] = [pydantic.BaseModel]
    while waiting:
        cls = waiting.pop()
        waiting += type.__subclasses__(cls)
        metadata = getattr(cls, "__pydantic_generic_metadata__", None) or {}
        origin = metadata.get("origin")
        if origin is None or not reference.startswith(
            f"{origin.__module__}.{origin.__qualname__}:{id(origin)}"
        ):
            continue
        match = cls
        if all(f":{id(argument)}" in reference for argument in metadata["args"]):
            break
    return match


def parts_of_type(annotation: Any) -> Iterator[Any]:
    """Yields the types of a value's parts."""
    annotation = plain_annotation(annotation)
    if get_origin(annotation) is typing.Literal:
        return
    inner = get_args(annotation)
    if not inner and isinstance(annotation, type):
        inner = tuple(fields_by_place(annotation).values())
    yield from (
        plain_annotation(part) for part in inner if part is not ... and not isinstance(part, list)
    )


Place: TypeAlias = "str | tuple[Any, ...]"

# The place of all extra fields.
_OTHERS = ("*",)


@functools.lru_cache(maxsize=1024)
def fields_by_place(cls: Any) -> Mapping[Place, Any]:
    """Returns the types of a record's fields by each name, or path, under which a value may have them."""
    is_record = (
        hasattr(cls, "model_fields")
        or dataclasses.is_dataclass(cls)
        or hasattr(cls, "__total__")
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )
    if not is_record:
        return {}
    if not getattr(cls, "__pydantic_complete__", True):
        cls.model_rebuild(raise_errors=False)  # resolves references to classes defined later
    types_by_place = cast("dict[Place, Any]", field_types(cls))
    for name, field in list((getattr(cls, "model_fields", None) or {}).items()):
        types_by_place |= dict.fromkeys(aliases_of(field), types_by_place[name])
    if extra := _extra(cls):
        types_by_place[_OTHERS] = extra[1]
    return types_by_place


def _extra(cls: Any) -> tuple[Any, ...]:
    """Returns the types of the names and values of a model's extra fields."""
    config = getattr(cls, "model_config", None) or {}
    if config.get("extra") != "allow":
        return ()
    try:
        return get_args(typing.get_type_hints(cls).get("__pydantic_extra__"))[:2]
    except (NameError, TypeError, SyntaxError):
        return ()


def aliases_of(field: Any) -> Iterator[Place]:
    """Yields the other places at which a model's field may stand: names, and paths as tuples."""
    for alias in (field.alias, field.validation_alias):
        for choice in getattr(alias, "choices", None) or [alias]:
            if isinstance(choice, str):
                yield choice
            elif path := getattr(choice, "path", None):
                yield tuple(path)


def content_at(place: Place, fields: Mapping[Place, Any], value: Mapping[Any, Any]) -> list[Any]:
    """Returns a value's content for a field."""
    if place == _OTHERS:
        return [item for name, item in value.items() if name not in fields]
    if isinstance(place, str):
        return [value[place]] if place in value else []
    part: Any = value
    try:
        for step in place:
            part = part[step]
    except (LookupError, TypeError):
        return []
    return [part]


class _Counter:
    """Counts the tries for one value."""

    def __init__(self) -> None:
        self._tries: dict[tuple[Any, int], int] = {}
        self._values: dict[int, Any] = {}
        self.parts = 1
        """The number of the value's parts."""

    def tries(self, annotation: Any, value: Any) -> int:
        """Counts the types that are tried, over all parts."""
        annotation = plain_annotation(annotation)
        if not isinstance(value, (Mapping, *_LISTS)):
            return len(get_args(annotation)) if is_union(annotation) else 1
        if id(value) not in self._values:
            self._values[id(value)] = value  # keeps it alive, so that its id stays unique
            self.parts += len(value)
        key = annotation_key(annotation), id(value)
        if key not in self._tries:
            self._tries[key] = 1  # for a value that contains itself
            self._tries[key] = 1 + self._tries_of_parts(annotation, value)
        return self._tries[key]

    def _tries_of_parts(self, annotation: Any, value: Any) -> int:
        inner, origin = get_args(annotation), get_origin(annotation)
        if is_union(annotation):
            return sum(self.tries(alternative, value) for alternative in inner)
        if origin is None:
            if not isinstance(annotation, type):
                return 0
            return self._tries_of_fields(fields_by_place(annotation), value)
        if isinstance(value, Mapping):
            if not (isinstance(origin, type) and issubclass(origin, Mapping)) or len(inner) < 2:
                return 0
            return sum(self.tries(inner[1], item) for item in value.values())
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return 0
        if origin is tuple and ... not in inner:
            return sum(map(self.tries, inner, value))
        return sum(self.tries(inner[0], item) for item in value) if inner else 0

    def _tries_of_fields(self, fields: Mapping[Place, Any], value: Any) -> int:
        if isinstance(value, Mapping):
            return sum(
                self.tries(kind, part)
                for place, kind in fields.items()
                for part in content_at(place, fields, value)
            )
        return sum(map(self.tries, fields.values(), value))  # a named tuple from a list
