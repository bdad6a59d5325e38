"""The host's classes whose values cross as records: taken apart on the way in, rebuilt on the way back.

A session knows the classes of the values that it sent and those declared when it was opened. A value that comes back
under the name of one of these is validated as that class; no name from the sandbox is ever imported.
`guest/values/records.py` is the other side.
"""

from __future__ import annotations

import copyreg
import dataclasses
import datetime
import enum
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast

from sandbox_runtime.guest.values import records
from sandbox_runtime.values.annotations import annotation_text, is_standard, is_typed_dict
from sandbox_runtime.values.bounds.converted_keys import check_making
from sandbox_runtime.values.bounds.flags import bounded_flags

Kind: TypeAlias = Literal["record", "named", "enum", "typed"]
Reduced: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...]]"

# Defaults of these types are sent; others stay on the host, which fills them in.
_PLAIN_DEFAULTS = (type(None), bool, int, float, str, bytes, Decimal, datetime.date)
_ENUM_BASES = ("IntFlag", "Flag", "StrEnum", "IntEnum", "Enum")
_MIXINS = (str, int, float, bytes, complex)


class Classes:
    """The classes that a session knows, each under a unique name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the names, so that they stay unique
        self._classes: dict[str, type] = {}
        self._keys: dict[type, str] = {}
        self._validators: dict[type, Callable[[Any], Any] | None] = {}

    def reduce_class(self, cls: Any) -> Reduced | None:
        """Returns the specification that creates a class in the sandbox; None if it cannot be there."""
        kind = kind_of(cls)
        if kind is None:
            return None
        key, name = self._key(cls), cls.__name__
        if kind == "enum":
            base = next(b for b in _ENUM_BASES if issubclass(cls, getattr(enum, b)))
            mixin = cls._member_type_ if base == "Enum" and cls._member_type_ in _MIXINS else None
            members = [(n, member.value) for n, member in cls.__members__.items()]
            return records.enum_class, (key, name, base, mixin, members)
        if kind == "named":
            defaults = tuple(cls._field_defaults.values())
            if not all(map(_is_plain_default, defaults)):
                defaults = ()
            return records.named_tuple_class, (key, name, _noted(cls, cls._fields), defaults)
        if kind == "typed":
            optional = frozenset(cls.__optional_keys__)
            fields = _noted(cls, cls.__annotations__)
            return records.typed_dict_class, (key, name, fields, optional)
        return records.record_class, (key, name, _record_bases(cls), *_record_parts(cls))

    def reduce_value(self, value: Any) -> tuple[Any, ...] | None:
        """Returns the reduction of a value of such a class; None for other classes."""
        cls: Any = type(value)
        match kind_of(cls):
            case "enum":
                return records.enum_member, (cls, value.value)
            case "named":
                return records.named_tuple, (cls, tuple(value))
            case "record":
                # The record is created before its fields, which may refer back to it.
                return copyreg.__newobj__, (cls,), fields_of(value)  # type: ignore[attr-defined]
        return None

    def _key(self, cls: type) -> str:
        with self._lock:
            if cls in self._keys:
                return self._keys[cls]
            plain = key = f"{cls.__module__}.{cls.__qualname__}"
            number = 1
            while key in self._classes:  # another class of the same name, as in notebooks
                number += 1
                key = f"{plain}#{number}"
            self._keys[cls], self._classes[key] = key, cls
            return key

    def rebuild(self, key: object, content: Any) -> Any:
        """Returns the content as a value of the class, if the session knows it and the content is valid.

        Otherwise returns the content unchanged; the declared type then decides what is wrong with it.
        """
        cls = self._classes.get(key) if isinstance(key, str) else None
        if cls is None:
            return content
        if cls not in self._validators:
            self._validators[cls] = _validator(cls)
        validate = self._validators[cls]
        try:
            check_making(cls, content)
            with bounded_flags(cls):
                return content if validate is None else validate(content)
        except Exception:  # noqa: BLE001 - a class's own validation may raise anything
            return content


@functools.lru_cache(maxsize=1024)
def kind_of(cls: Any) -> Kind | None:
    """Returns how values of a host's class cross; None if not as records."""
    if not isinstance(cls, type) or _is_importable(cls):
        return None
    if issubclass(cls, enum.Enum):
        return "enum" if cls.__members__ else None
    if _is_model(cls) or dataclasses.is_dataclass(cls) or _is_attrs(cls):
        return "record"
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults"):
        return "named"
    return "typed" if is_typed_dict(cls) else None


def _is_importable(cls: type) -> bool:
    """Returns whether the class is importable from the standard library, unlike those of `make_dataclass`."""
    current: Any = sys.modules.get(cls.__module__) if is_standard(cls.__module__) else None
    for name in cls.__qualname__.split("."):
        current = getattr(current, name, None)
    return current is cls and cls.__module__ != "__main__"


def _is_model(cls: type) -> bool:
    return (
        isinstance(getattr(cls, "model_fields", None), dict) and cls.__module__ != "pydantic.main"
    )


def _is_attrs(cls: type) -> bool:
    return isinstance(getattr(cls, "__attrs_attrs__", None), tuple)


def fields_of(value: Any) -> dict[str, Any]:
    """Returns the fields of a Pydantic model, dataclass or attrs class, including extra fields."""
    cls: Any = type(value)
    if _is_attrs(cls):
        return {field.name: getattr(value, field.name) for field in cls.__attrs_attrs__}
    if not _is_model(cls):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    own = vars(value)
    extra = getattr(value, "__pydantic_extra__", None) or {}
    return {**{name: own[name] for name in cls.model_fields if name in own}, **extra}


def _noted(cls: Any, names: Iterable[str]) -> dict[str, str]:
    notes = getattr(cls, "__annotations__", {})
    return {name: annotation_text(notes.get(name, Any)) for name in names}


def _record_bases(cls: type) -> tuple[type, ...]:
    """Returns the nearest ancestors that are records as well."""
    bases: list[type] = []
    for base in cls.__bases__:
        bases += [base] if kind_of(base) == "record" else _record_bases(base)
    return tuple(dict.fromkeys(bases))


def _record_parts(cls: Any) -> tuple[Any, ...]:
    """Returns the fields, optional fields, defaults, factories and traits: see `records.record_class`."""
    types: dict[str, str] = {}
    optional: set[str] = set()
    defaults: dict[str, Any] = {}
    factories: dict[str, Any] = {}
    model = _is_model(cls)
    if not model and _is_attrs(cls):
        return _attrs_parts(cls)
    fields: dict[str, Any] = (
        cls.model_fields if model else {f.name: f for f in dataclasses.fields(cls)}
    )
    for name, field in fields.items():
        types[name] = annotation_text(field.annotation if model else field.type)
        required = (
            field.is_required()
            if model
            else field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        )
        if required:
            continue
        optional.add(name)
        default, factory = field.default, field.default_factory
        if factory in (list, dict, set):
            factories[name] = factory
        elif type(default) in (list, dict, set) and not default:
            factories[name] = type(default)
        elif _is_plain_default(default) and (not model or not factory):
            defaults[name] = default
    return types, frozenset(optional), defaults, factories, _traits(cls, model)


def _attrs_parts(cls: Any) -> tuple[Any, ...]:
    """Returns the same for an attrs class, which needs no import of attrs."""
    types = {field.name: annotation_text(field.type or Any) for field in cls.__attrs_attrs__}
    with_default = [f for f in cls.__attrs_attrs__ if type(f.default).__name__ != "_Nothing"]
    factories = {
        field.name: factory
        for field in with_default
        if (factory := getattr(field.default, "factory", None)) in (list, dict, set)
    }
    defaults = {f.name: f.default for f in with_default if _is_plain_default(f.default)}
    by_identity = cls.__eq__ is object.__eq__
    hashable = cls.__hash__ is not None and not by_identity
    flags = {
        "frozen": cls.__setattr__.__name__ == "_frozen_setattrs",
        "hashable": hashable,
        "identity": by_identity,
    }
    optional = frozenset(field.name for field in with_default)
    return (
        types,
        optional,
        defaults,
        factories,
        tuple(name for name, there in flags.items() if there),
    )


def _is_plain_default(default: Any) -> bool:
    if type(default) is tuple:
        return all(map(_is_plain_default, default))
    return isinstance(default, enum.Enum) or type(default) in _PLAIN_DEFAULTS


def _traits(cls: Any, model: bool) -> tuple[str, ...]:
    if model:
        config = cls.model_config
        frozen, is_open = bool(config.get("frozen")), config.get("extra") == "allow"
        traits = {"frozen": frozen, "hashable": cls.__hash__ is not None, "open": is_open}
    else:
        settings = cls.__dataclass_params__
        by_identity = cls.__eq__ is object.__eq__
        hashable = cls.__hash__ is not None and not by_identity
        traits = {"frozen": settings.frozen, "hashable": hashable}
        traits |= {"identity": by_identity, "order": settings.order}
    return tuple(name for name, there in traits.items() if there)


# ---- Back to the host's classes ----


def _validator(cls: Any) -> Callable[[Any], Any] | None:
    """Returns a function that builds a value from plain content, or raises; None if there is none."""
    import pydantic  # imported lazily, to keep the start of a session fast

    kind = kind_of(cls)
    if kind == "enum":
        return cast("Callable[[Any], Any]", cls)
    if kind == "record" and _is_model(cls):
        return _model_validator(cls)
    if kind == "record" and not dataclasses.is_dataclass(cls):
        return _attrs_builder(cls)
    try:
        validate = pydantic.TypeAdapter(cls).validate_python
    except (pydantic.errors.PydanticUserError, NameError):  # a field of a type unknown to Pydantic
        return None
    return _dataclass_validator(cls, validate) if kind == "record" else validate


def _attrs_builder(cls: Any) -> Callable[[Any], Any]:
    """Returns a function that builds an attrs class, with the types checked that Pydantic knows."""
    import pydantic

    arguments, checks = {}, {}
    for field in cls.__attrs_attrs__:
        if field.init:
            # attrs removes the underscores of private fields from the names of arguments.
            arguments[field.name] = getattr(field, "alias", None) or field.name.lstrip("_")
        try:
            checks[field.name] = pydantic.TypeAdapter(field.type or Any).validate_python
        except (pydantic.errors.PydanticUserError, NameError):
            continue

    def build(content: Mapping[str, Any]) -> Any:
        checked = {n: checks[n](value) if n in checks else value for n, value in content.items()}
        instance = cls(**{arguments[n]: value for n, value in checked.items() if n in arguments})
        if any(getattr(instance, n) != v for n, v in checked.items() if n not in arguments):
            raise ValueError("it has fields that would be lost")
        return instance

    return build


def _model_validator(cls: Any) -> Callable[[Any], Any]:
    if "root" in cls.model_fields and getattr(cls, "__pydantic_root_model__", False):
        return lambda content: cls.model_validate(content["root"])
    external_names = {name: _alias(field) or name for name, field in cls.model_fields.items()}
    closed = cls.model_config.get("extra") != "allow"

    def validate(content: Mapping[str, Any]) -> Any:
        if closed and not content.keys() <= external_names.keys():
            raise ValueError("it has fields that would be lost")
        return cls.model_validate(
            {external_names.get(name, name): v for name, v in content.items()}
        )

    return validate


def _alias(field: Any) -> str | None:
    """Returns the name under which a model reads a field, if it differs from the field's own."""
    alias = field.validation_alias
    choices = getattr(alias, "choices", None) or [alias]
    return next((choice for choice in choices if isinstance(choice, str)), None)


def _dataclass_validator(cls: Any, validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    init_fields = {field.name for field in dataclasses.fields(cls) if field.init}

    def validate_fields(content: Mapping[str, Any]) -> Any:
        instance = validate({name: value for name, value in content.items() if name in init_fields})
        if any(getattr(instance, n) != v for n, v in content.items() if n not in init_fields):
            raise ValueError("it has fields that would be lost")
        return instance

    return validate_fields
