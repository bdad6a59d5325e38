"""Estimates the memory that converting a small value to a large type takes, before the conversion.

Pydantic makes an error for every missing field of every record, and for every alternative of a union, however short the
value is: a thousand empty records of a class with 900 fields, 3 kB, would make 900,000 errors of some 300 bytes. Absent
fields with a default cost memory too, in the records that are made. Errors of parts that are there are in proportion to
the value, and are not counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from sandbox_runtime.host_costs import (
    BYTES_PER_DEFAULT,
    BYTES_PER_ERROR,
    FREE_ERROR_BYTES,
    UNESTIMATED_FACTOR,
)
from sandbox_runtime.values.annotations import cached_by_type, field_types
from sandbox_runtime.values.bounds.conversion_cost import (
    EffortError,
    aliases_of,
    annotation_key,
    content_at,
    is_union,
    parts_of_type,
    plain_annotation,
)

_LISTS = (list, tuple, set, frozenset)

# The size of an element and of an entry, in characters, if its content is as short as possible: `1,` and `"a":1,`.
_ELEMENT_CHARS = 2
_ENTRY_CHARS = 6

# Few alternatives: their errors are in proportion to the value.
_FEW_ALTERNATIVES = 2

# Both counts in one number, which can be added: an error, and an absent field with a default.
_ERROR, _DEFAULT = 1 << 32, 1


def check_errors(annotation: Any, value: Any) -> None:
    """Raises `EffortError` if converting the value could make errors, or defaults, out of proportion to its size."""
    if not isinstance(value, (Mapping, *_LISTS)) or not _is_wide(annotation):
        return
    estimate = _Estimate()
    try:
        needed = estimate.needed(annotation, value)
    except RecursionError:
        needed, estimate.chars = _worst_case(annotation, value)
    if _bytes(needed) > FREE_ERROR_BYTES + UNESTIMATED_FACTOR * estimate.chars:
        raise EffortError(
            "too many fields are missing in its records, or too many parts fit no alternative of their type. "
            "Check one of its parts"
        )


@cached_by_type
def _is_wide(annotation: Any) -> bool:
    """Returns whether the type contains records, or unions of more than a few alternatives."""
    return any(_is_record(part) or _alternatives_of(part) for part in _types_in(annotation))


def _types_in(annotation: Any) -> list[Any]:
    """Returns the type and those of all its parts, each once."""
    found: dict[Any, Any] = {}
    waiting = [plain_annotation(annotation)]
    while waiting:
        part = waiting.pop()
        if (key := annotation_key(part)) not in found:
            found[key] = part
            waiting += parts_of_type(part)
            if _is_record(part):
                waiting += map(plain_annotation, _record(part).kinds.values())
    return list(found.values())


def _bytes(needed: int) -> int:
    errors, defaults = divmod(needed, _ERROR)
    return BYTES_PER_ERROR * errors + BYTES_PER_DEFAULT * defaults


def _worst_case(annotation: Any, value: Any) -> tuple[int, int]:
    """Returns the need if each container met all types without any field, and the value's length, at least."""
    types = _types_in(annotation)
    each = _ERROR * len(types) + sum(_record(part).absent for part in types if _is_record(part))
    chars = containers = 0
    visited: set[int] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (Mapping, *_LISTS)) and id(part) not in visited:
            visited.add(id(part))
            containers += 1
            chars += _chars(part)
            waiting += part.values() if isinstance(part, Mapping) else part
    return containers * each, chars


def _chars(container: Any) -> int:
    each = _ENTRY_CHARS if isinstance(container, Mapping) else _ELEMENT_CHARS
    return _ELEMENT_CHARS + each * len(container)


# ---- Types -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Record:
    """A class with fields, or a tuple of fixed length, whose fields are numbered."""

    kinds: Mapping[Any, Any]
    """The types of its fields, by name."""

    deep: tuple[tuple[Any, tuple[Any, ...]], ...]
    """The types of the fields that have parts, with all places of each."""

    costs: Mapping[Any, int]
    """The need of a field that is absent, by each of its names."""

    paths: tuple[tuple[tuple[Any, ...], int], ...]
    """The places of fields within other fields, with the same need."""

    absent: int
    """The need if all fields are absent."""

    is_tuple: bool
    """True if its fields may come as a list."""


@cached_by_type
def _is_record(annotation: Any) -> bool:
    """Returns whether the type is a class with fields, or a tuple of fixed length."""
    origin = get_origin(annotation)
    if origin is tuple:
        return ... not in get_args(annotation)
    cls = origin or annotation
    return isinstance(cls, type) and bool(field_types(cls))


@cached_by_type
def _record(annotation: Any) -> _Record:
    """Returns the fields of such a type."""
    cls, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if cls is tuple:
        numbers = dict.fromkeys(range(len(arguments)), _ERROR)
        return _record_of(dict(enumerate(arguments)), {}, numbers, is_tuple=True)
    chosen = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    kinds = {name: _filled(kind, chosen) for name, kind in field_types(cls).items()}
    models = _model_fields(cls)
    places = {name: list(aliases_of(models[name])) for name in kinds if name in models}
    costs = {name: _ERROR if _is_required(cls, name) else _DEFAULT for name in kinds}
    return _record_of(kinds, places, costs, is_tuple=issubclass(cls, tuple))


def _record_of(
    kinds: Mapping[Any, Any],
    places: Mapping[Any, list[Any]],
    costs: Mapping[Any, int],
    *,
    is_tuple: bool,
) -> _Record:
    by_place = {place: costs[name] for name in kinds for place in [name, *places.get(name, [])]}
    return _Record(
        kinds,
        tuple(
            (kind, (name, *places.get(name, [])))
            for name, kind in kinds.items()
            if is_union(plain_annotation(kind)) or any(True for _ in parts_of_type(kind))
        ),
        {place: cost for place, cost in by_place.items() if not isinstance(place, tuple)},
        tuple((place, cost) for place, cost in by_place.items() if isinstance(place, tuple)),
        sum(costs.values()),
        is_tuple,
    )


def _filled(kind: Any, chosen: Mapping[Any, Any]) -> Any:
    """Returns the type with its type variables replaced."""
    if kind in chosen:
        return chosen[kind]
    variables = getattr(kind, "__parameters__", ())
    if not chosen or not variables or isinstance(kind, type):
        return kind
    return kind[tuple(chosen.get(variable, Any) for variable in variables)]


def _model_fields(cls: Any) -> Mapping[str, Any]:
    fields = getattr(cls, "__pydantic_fields__", None)
    return fields if isinstance(fields, dict) else {}


def _is_required(cls: Any, name: str) -> bool:
    """Returns whether a record without the field is an error. Attrs classes stop at the first."""
    decorators = getattr(cls, "__pydantic_decorators__", None)
    if decorators and any(one.info.mode != "after" for one in decorators.model_validators.values()):
        return False  # it may add the field
    if name in _model_fields(cls):
        return bool(_model_fields(cls)[name].is_required())
    if dataclasses.is_dataclass(cls):
        field = next(field for field in dataclasses.fields(cls) if field.name == name)
        missing = dataclasses.MISSING
        return field.init and field.default is missing and field.default_factory is missing
    if (required := getattr(cls, "__required_keys__", None)) is not None:
        return name in required
    return name not in getattr(cls, "_field_defaults", {}) and not hasattr(cls, "__attrs_attrs__")


@cached_by_type
def _alternatives_of(annotation: Any) -> tuple[type, ...]:
    """Returns the classes of a union of more than a few types that refuses some values; otherwise none."""
    parts = [get_origin(part) or part for part in map(plain_annotation, get_args(annotation))]
    if not is_union(annotation) or len(parts) <= _FEW_ALTERNATIVES or Any in parts:
        return ()
    classes = tuple(part for part in parts if isinstance(part, type))
    return (*classes, int) if float in classes else classes


@cached_by_type
def _containers_of(union: Any) -> tuple[list[Any], int]:
    """Returns the alternatives of a union that take containers, and the number of the others."""
    parts = [plain_annotation(part) for part in get_args(union)]
    containers = [part for part in parts if is_union(part) or _takes(part, {}) or _takes(part, [])]
    return containers, len(parts) - len(containers)


# ---- Values ----------------------------------------------------------------------------------------


class _Estimate:
    """Adds up the errors and defaults for one value."""

    def __init__(self) -> None:
        self._needed: dict[tuple[Any, int], int] = {}
        self._values: dict[int, Any] = {}
        self.chars = 0
        """The length of the value's containers, and of the texts in unions, at least."""

    def needed(self, annotation: Any, value: Any) -> int:
        """Returns the need of a part, in units of `_ERROR` and `_DEFAULT`."""
        annotation = plain_annotation(annotation)
        if not isinstance(value, (Mapping, *_LISTS)):
            return self._for_leaf(annotation, value)
        if id(value) not in self._values:
            self._values[id(value)] = value  # keeps it alive, so that its id stays unique
            self.chars += _chars(value)
        key = annotation_key(annotation), id(value)
        if key not in self._needed:
            self._needed[key] = 0  # for a value that contains itself
            self._needed[key] = self._for_parts(annotation, value)
        return self._needed[key]

    def _for_leaf(self, annotation: Any, value: Any) -> int:
        """Returns the need of a part without parts: an error for each alternative, unless it is of one."""
        if isinstance(value, (str, bytes)):
            self.chars += len(value)
        classes = _alternatives_of(annotation)
        return 0 if not classes or isinstance(value, classes) else _ERROR * len(classes)

    def _for_parts(self, annotation: Any, value: Any) -> int:
        inner, origin = get_args(annotation), get_origin(annotation)
        if is_union(annotation):
            return self._for_alternatives(annotation, value)
        if _is_record(annotation):
            return self._for_record(annotation, value)
        if not isinstance(origin, type):
            return 0
        if isinstance(value, Mapping) != issubclass(origin, Mapping):
            return 0
        if isinstance(value, Mapping):
            return sum(self.needed(inner[1], item) for item in value.values()) if inner[1:] else 0
        if not inner:
            return 0
        kind = plain_annotation(inner[0])
        if _is_record(kind) and not (_record(kind).deep or _record(kind).paths):
            return sum(self._for_flat(_record(kind), item) for item in value)
        return sum(self.needed(kind, item) for item in value)

    def _for_flat(self, record: _Record, value: Any) -> int:
        """Returns the need of one of many records without parts, as fast as possible."""
        if not isinstance(value, (Mapping, *_LISTS)):
            return 0
        self.chars += _chars(value)
        if not isinstance(value, Mapping):
            return _ERROR * max(0, len(record.kinds) - len(value)) if record.is_tuple else 0
        return _absent(record, value)

    def _for_alternatives(self, union: Any, value: Any) -> int:
        """Returns the need of a container: that of an alternative that fits, otherwise the sum of all."""
        containers, scalars = _containers_of(union)
        total = _ERROR * scalars
        for part in containers:
            needed = self.needed(part, value)
            if needed < _ERROR and _takes(part, value):
                return needed
            total += needed + _ERROR
        return total if total > _FEW_ALTERNATIVES * _ERROR else 0

    def _for_record(self, annotation: Any, value: Any) -> int:
        record = _record(annotation)
        if not isinstance(value, Mapping):
            if not record.is_tuple:
                return 0
            value = dict(zip(record.kinds, value, strict=False))
        total = _absent(record, value)
        total -= sum(cost * len(content_at(path, {}, value)) for path, cost in record.paths)
        return max(0, total) + sum(
            self.needed(kind, part)
            for kind, places in record.deep
            for place in places
            for part in content_at(place, {}, value)
        )


def _absent(record: _Record, value: Mapping[Any, Any]) -> int:
    """Returns the need of the fields that a value does not name."""
    if record.kinds.keys() <= value.keys():
        return 0
    return max(0, record.absent - sum(record.costs.get(name, 0) for name in value))


def _takes(annotation: Any, value: Any) -> bool:
    """Returns whether a type may take a container as it is."""
    if annotation is Any or annotation is object:
        return True
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type):
        return False
    if isinstance(value, Mapping):
        return issubclass(kind, Mapping) or _is_record(annotation)
    return not issubclass(kind, (str, bytes, Mapping)) and hasattr(kind, "__iter__")
