"""The host's classes in the sandbox: records, named tuples, enums, typed dicts.

Runs inside the sandbox, so it uses only the standard library. The host sends the name and structure of a class, and none
of its code. `sandbox_runtime/values/classes.py` is the other side.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections import namedtuple
from collections.abc import Callable, Container, ItemsView, Iterator, KeysView, ValuesView
from typing import Any, ClassVar, NoReturn

# Pickling and copying find classes by module and name, so the classes created here need a module.
_HOME = types.ModuleType("host_types", "The classes of the values that came from the host.")
sys.modules[_HOME.__name__] = _HOME

# The host's name of each class. By class, so that no attribute of a value is read.
_KEYS: dict[type, str] = {}

_CLASSES: dict[str, Known] = {}
_UNBOUND: dict[type, None] = {}

Known = tuple[str, tuple[Any, ...], type]
"""The name of a function of `MAKERS`, the arguments that it made a class of, and the class."""


class Record:
    """A value of a host's class: the same name, fields and attribute access.

    Iterating, indexing and `dict(record)` treat it as a mapping of its fields.
    """

    __record_fields__: ClassVar[dict[str, str]] = {}
    __record_defaults__: ClassVar[dict[str, Any]] = {}
    __record_factories__: ClassVar[dict[str, Callable[[], Any]]] = {}
    __record_optional__: ClassVar[frozenset[str]] = frozenset()
    __record_open__: ClassVar[bool] = False

    def __new__(cls, /, *_: Any, **__: Any) -> Any:
        """Creates a record without fields.

        Without this, a cell that has set `__new__` on a subclass would leave that unable to take arguments, though
        the attribute is removed: CPython does not restore the slot.
        """
        return object.__new__(cls)

    def __init__(self, /, *args: Any, **keywords: Any) -> None:
        kind = type(self)
        names = list(kind.__record_fields__)
        problems = [f"takes {len(names)} values, got {len(args)}"] if len(args) > len(names) else []
        fields = dict(zip(names, args, strict=False))
        problems += [f"got {name!r} twice" for name in keywords if name in fields]
        fields |= keywords
        if not kind.__record_open__:
            problems += [f"has no field {name!r}" for name in fields if name not in names]
        left_out = [name for name in names if name not in fields]
        needed = [name for name in left_out if name not in kind.__record_optional__]
        problems += [f"is missing {name!r}" for name in needed]
        if problems:
            raise TypeError(f"{kind.__name__}() {', '.join(problems)}. Call {kind.__doc__}.")
        fields |= {n: v for n, v in kind.__record_defaults__.items() if n in left_out}
        fields |= {n: make() for n, make in kind.__record_factories__.items() if n in left_out}
        # In the order of the class. Defaults that only the host has are filled in there.
        self.__dict__.update({name: fields.pop(name) for name in names if name in fields}, **fields)

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks these up on any object
            raise AttributeError(name)
        fields = ", ".join(vars(self)) or "no fields"
        raise AttributeError(f"{type(self).__name__} has no {name!r}. It has: {fields}.")

    # As a dict. A field of one of these names takes precedence.

    def keys(self) -> KeysView[str]:
        """The names of the fields."""
        return vars(self).keys()

    def values(self) -> ValuesView[Any]:
        """The values of the fields."""
        return vars(self).values()

    def items(self) -> ItemsView[str, Any]:
        """The fields and their values."""
        return vars(self).items()

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field, or the default if there is no such field."""
        return vars(self).get(name, default)

    def toDict(self) -> dict[str, Any]:  # noqa: N802 - the name of DSPy's method
        """The fields as a dict, also those of records inside."""
        return {name: plain(value) for name, value in vars(self).items()}

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __contains__(self, name: object) -> bool:
        return name in vars(self)

    def __len__(self) -> int:
        return len(vars(self))

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


def plain(value: Any) -> Any:
    """Returns a value with dicts in place of the records in it."""
    if isinstance(value, Record):
        return {name: plain(part) for name, part in vars(value).items()}
    if type(value) is dict:
        return {name: plain(part) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value


def as_json(encode: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Returns a `JSONEncoder.default` that writes a record as the object of its fields, as it would a dict."""

    def default(self: Any, o: Any) -> Any:
        return dict(vars(o)) if isinstance(o, Record) else encode(self, o)

    return default


def _by_identity() -> dict[str, Any]:
    return {"__eq__": object.__eq__, "__hash__": object.__hash__}


def _by_content() -> dict[str, Any]:
    def content_hash(self: Record) -> int:
        return hash((type(self), tuple(vars(self).values())))

    return {"__hash__": content_hash}


def _frozen() -> dict[str, Any]:
    def refuse_set(self: Record, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: its fields cannot be set")

    def refuse_delete(self: Record, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: its fields cannot be deleted")

    return {"__setattr__": refuse_set, "__delattr__": refuse_delete}


def _ordered() -> dict[str, Any]:
    def compare(name: str) -> Callable[[Record, Record], Any]:
        def method(one: Record, other: Record) -> Any:
            if type(one) is not type(other):
                return NotImplemented
            return getattr(tuple(vars(one).values()), name)(tuple(vars(other).values()))

        return method

    return {name: compare(name) for name in ("__lt__", "__le__", "__gt__", "__ge__")}


_TRAITS = {"identity": _by_identity, "hashable": _by_content, "frozen": _frozen, "order": _ordered}


def record_class(
    key: str,
    name: str,
    bases: tuple[type, ...],
    fields: dict[str, str],
    optional: frozenset[str] = frozenset(),
    defaults: dict[str, Any] | None = None,
    factories: dict[str, Any] | None = None,
    traits: tuple[str, ...] = (),
) -> type:
    """Returns the record class of a Pydantic model or dataclass.

    Args:
        key: The host's name of the class.
        name: The class's own name.
        bases: The bases that are records.
        fields: The fields, with their types as text.
        optional: Fields that may be omitted.
        defaults: Default values of some of these.
        factories: Default factories of some of these.
        traits: `frozen`, `hashable`, `identity`, `order`, `open` (unknown fields are accepted).
    """
    parts = (fields, optional, defaults or {}, factories or {}, traits)
    return _class_of("record", (key, name, bases, *parts))


def _make_record(
    _key: str,
    name: str,
    bases: tuple[type, ...],
    fields: dict[str, str],
    optional: frozenset[str],
    defaults: dict[str, Any],
    factories: dict[str, Any],
    traits: tuple[str, ...],
) -> type:
    parameters = [f"{n}: {t}{' = ...' if n in optional else ''}" for n, t in fields.items()]
    members: dict[str, Any] = {
        "__doc__": f"{name}({', '.join(parameters)})",
        "__annotations__": dict(fields),
        "__record_fields__": dict(fields),
        "__record_optional__": optional,
        "__record_defaults__": dict(defaults),
        "__record_factories__": dict(factories),
        "__record_open__": "open" in traits,
    }
    for trait in traits:
        members |= _TRAITS[trait]() if trait in _TRAITS else {}
    try:
        return type(name, bases or (Record,), members)
    except TypeError:  # bases whose MRO conflicts without those that stayed on the host
        return type(name, bases[:1], members)


def named_tuple_class(
    key: str, name: str, fields: dict[str, str], defaults: tuple[Any, ...] = ()
) -> type:
    """Returns the class of a named tuple."""
    return _class_of("named", (key, name, fields, defaults))


def _make_named_tuple(
    _key: str, name: str, fields: dict[str, str], defaults: tuple[Any, ...]
) -> type:
    make_class: Any = namedtuple
    kind = make_class(name, list(fields), defaults=defaults)
    kind.__annotations__ = dict(fields)
    kind.__doc__ = f"{name}({', '.join(f'{n}: {t}' for n, t in fields.items())})"
    cls: type = kind
    return cls


def named_tuple(kind: Any, items: tuple[Any, ...]) -> Any:
    """Returns a named tuple of a class."""
    return kind._make(items)


def enum_class(
    key: str, name: str, base: str, mixin: type | None, members: list[tuple[str, Any]]
) -> type:
    """Returns the class of an enum, with all its members. `base` is the name of a class in `enum`."""
    return _class_of("enum", (key, name, base, mixin, members))


def _make_enum(
    _key: str, name: str, base: str, mixin: type | None, members: list[tuple[str, Any]]
) -> type:
    options = {} if mixin is None else {"type": mixin}
    cls: Any = getattr(enum, base)(name, members, **options)
    if base == "Flag":
        # A combination of members is created where it is first needed, in each cell anew.
        cls.__eq__, cls.__hash__ = _equal_members, _member_hash
    return cls  # type: ignore[no-any-return]


def _equal_members(one: Any, other: Any) -> Any:
    return one._value_ == other._value_ if type(one) is type(other) else NotImplemented


def _member_hash(member: Any) -> int:
    return hash(member._value_)


def enum_member(kind: Any, value: Any) -> Any:
    """Returns the member of an enum with a value; for a flag, also a combination."""
    return kind(value)


def typed_dict_class(key: str, name: str, fields: dict[str, str], optional: frozenset[str]) -> type:
    """Returns a typed dict: calling it creates a dict."""
    return _class_of("typed", (key, name, fields, optional))


def _make_typed_dict(
    _key: str, name: str, fields: dict[str, str], optional: frozenset[str]
) -> type:
    notes = {n: typing.NotRequired[Any] if n in optional else Any for n in fields}
    make_class: Any = typing.TypedDict
    cls = make_class(name, notes)
    cls.__doc__ = f"{name}({', '.join(f'{n}: {t}' for n, t in fields.items())})"
    return cls  # type: ignore[no-any-return]


MAKERS: dict[str, Callable[..., type]] = {
    "record": _make_record,
    "named": _make_named_tuple,
    "enum": _make_enum,
    "typed": _make_typed_dict,
}


def _class_of(maker: str, args: tuple[Any, ...]) -> type:
    """Returns the class of a description, created at the first call."""
    described = description(maker, args)
    if described in _CLASSES:
        _, _, kind = _CLASSES[described]
    else:
        kind = MAKERS[maker](*args)
        _CLASSES[described] = maker, args, kind
        _KEYS[kind] = args[0]
        _settle(kind)
    # At each call: the class may have arrived before there was a namespace to bind it in.
    _UNBOUND[kind] = None
    return kind


def description(maker: str, args: tuple[Any, ...]) -> str:
    """Returns a text that is the same for equal classes only."""
    return repr((maker, *(sorted(arg) if type(arg) is frozenset else arg for arg in args)))


def _settle(kind: type) -> None:
    """Binds a class in the module of these classes, so that its instances can be copied and pickled."""
    name = unique_name(kind.__name__, vars(_HOME))
    kind.__module__, kind.__qualname__ = _HOME.__name__, name
    setattr(_HOME, name, kind)


def unique_name(plain: str, used: Container[str]) -> str:
    """Returns the name of a class, or one like it that is not used yet."""
    name, number = plain.replace(".", "_"), 1
    while name in used:
        number += 1
        name = f"{plain}_{number}"
    return name


def host_key(kind: type) -> str | None:
    """Returns the host's name of the class, or of its first base that came from the host."""
    for base in kind.__mro__:
        if base in _KEYS:
            return _KEYS[base]
    return None


def bind_classes(namespace: dict[str, Any], reserved: dict[str, Any]) -> None:
    """Binds new classes in a namespace, under names that are neither bound there nor in `reserved`."""
    while _UNBOUND:
        kind, _ = _UNBOUND.popitem()
        if kind.__name__.isidentifier() and kind.__name__ not in reserved:
            namespace.setdefault(kind.__name__, kind)
