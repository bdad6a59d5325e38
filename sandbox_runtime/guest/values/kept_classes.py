"""Keeps the classes that came from the host the same in every cell, whatever a cell does to them.

A class often arrives while a cell runs, so what a cell leaves behind cannot be believed. Between cells each new class
is created once more from its description, and the attributes of the class that arrived are replaced by those of the
new one: it stays the same object, which earlier values are instances of. A class for which that is not possible is
forgotten, and created anew when it arrives again. What is kept is fixed by `add_to`.

Runs inside the sandbox, so it uses only the standard library.
"""

from __future__ import annotations

import datetime
import enum
import types
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import chain
from operator import is_
from typing import Any, cast

from sandbox_runtime.guest.values import records
from sandbox_runtime.guest.values.records import Known

Kept = tuple[tuple[str, Known, str], ...]
"""The description of each class, how it was made, and its qualified name."""

# A session with more classes creates the others anew in each cell.
MAX_KEPT = 1_000

# A description is nested no deeper.
_MAX_DEPTH = 8

_SCALARS = frozenset(
    [type(None), bool, int, float, complex, str, bytes, Decimal, datetime.date, datetime.datetime]
)
_CONTAINERS = frozenset([tuple, list, set, frozenset])
_BUILTINS = (list, dict, set, str, int, float, bytes, complex)

# Attributes that belong to one class alone, that are not in its dictionary, or that a later step replaces.
_OWN = ("__dict__", "__weakref__", "__annotations_cache__", "__annotations__")

_set, _delete = type.__setattr__, type.__delattr__
_names_of = cast(Any, type.__dict__["__dict__"]).__get__
_bases_of = cast(Any, type.__dict__["__bases__"]).__get__
_name_of = cast(Any, type.__dict__["__name__"]).__get__
_qualified_name_of = cast(Any, type.__dict__["__qualname__"]).__get__
_LAYOUT = tuple(
    cast(Any, type.__dict__[part]).__get__
    for part in ("__basicsize__", "__itemsize__", "__dictoffset__")
)


def unchanged(kept: Kept) -> bool:
    """Returns whether the tables and the names of the classes are still as `bind` has left them."""
    kinds = [kind for _, (_, _, kind), _ in kept]
    return (
        len(records._CLASSES) == len(records._KEYS) == len(kept)
        and all(map(is_, records._CLASSES, (text for text, _, _ in kept)))
        and all(map(is_, records._CLASSES.values(), (known for _, known, _ in kept)))
        and all(map(is_, records._KEYS, kinds))
        and all(map(is_, records._KEYS.values(), (args[0] for _, (_, args, _), _ in kept)))
        and all(map(is_, map(_name_of, kinds), (args[1] for _, (_, args, _), _ in kept)))
        and all(map(is_, map(_qualified_name_of, kinds), (name for _, _, name in kept)))
    )


def settle(kept: Kept, fits: Callable[[Known], bool]) -> tuple[Kept, list[Any]]:
    """Returns the classes to keep: those from before, and the new ones that can be made sound and that fit.

    Also returns what was replaced. The caller keeps it until finalizers may run.
    """
    replaced: list[Any] = []
    result = list(kept)
    names = {name for _, _, name in kept}
    for text, known in list(records._CLASSES.items()):
        if len(result) >= MAX_KEPT or any(known is other for _, other, _ in result):
            continue
        replaced.append((text, known))
        if _is_sound(text, known, result) and _remake(known, replaced) and fits(known):
            name = records.unique_name(known[1][1], names)
            names.add(name)
            result.append((text, known, name))
    return tuple(result), replaced


def bind(kept: Kept) -> list[Any]:
    """Fills the tables with the kept classes, and nothing else. Returns what it has replaced."""
    home = vars(records._HOME)
    tables: tuple[dict[Any, Any], ...] = (records._CLASSES, records._KEYS, records._UNBOUND, home)
    replaced = [list(table.items()) for table in tables]
    own = [(name, value) for name, value in home.items() if type(name) is str and name[:2] == "__"]
    for table in tables:
        table.clear()
    home.update(own)
    for text, known, name in kept:
        _, args, kind = known
        records._CLASSES[text] = known
        records._KEYS[kind] = args[0]
        home[name] = kind
        _set(kind, "__name__", args[1])
        _set(kind, "__qualname__", name)
    return replaced


def add_to(foundation: Any, kinds: Iterable[type]) -> None:
    """Adds classes, and everything mutable that they consist of, to a `Foundation`."""
    for kind in kinds:
        foundation.add_class(kind)
        for value in list(_names_of(kind).values()):
            if type(value) is dict:
                foundation.add_table(value)
            elif type(value) is types.FunctionType:
                foundation.add_function(value)
            elif type(value) is staticmethod:
                foundation.add_function(value.__func__)
            elif type(value) is kind:  # a member of an enum
                foundation.add_object(value)


# ---- Whether a description can be believed ----


def _is_sound(text: object, known: object, kept: Sequence[tuple[str, Known, str]]) -> bool:
    """Returns whether this describes a class of the host, with nothing in it that could run code of a cell."""
    if type(text) is not str or type(known) is not tuple or len(known) != 3:
        return False
    maker, args, kind = known
    if type(maker) is not str or type(args) is not tuple or maker not in records.MAKERS:
        return False
    classes = [one for _, (_, _, one), _ in kept]
    return (
        not any(kind is one for one in classes)
        and _is_data(args, classes, _MAX_DEPTH)
        and records.description(maker, args) == text
    )


def _is_data(value: Any, classes: Sequence[type], depth: int) -> bool:
    """Returns whether a value is plain data, a kept class, or a member of a kept enum."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth == 0:
        return False
    if kind in _CONTAINERS:
        return all(_is_data(item, classes, depth - 1) for item in value)
    if kind is dict:
        parts = chain(value, dict.values(value))
        return all(_is_data(item, classes, depth - 1) for item in parts)
    return any(value is one for one in (*_BUILTINS, *classes)) or any(
        kind is one for one in classes
    )


# ---- Replacing the attributes of a class ----


def _remake(known: Known, replaced: list[Any]) -> bool:
    """Replaces the attributes of a class by those of a new one from the same description, if it is such a class."""
    maker, args, kind = known
    try:
        fresh = records.MAKERS[maker](*args)
    except Exception:  # noqa: BLE001 - a cell has written the description
        return False
    if not _is_alike(kind, fresh):
        return False
    replaced.append(list(_names_of(kind).items()))
    members = _members(kind, fresh)
    if members is None:
        return False
    own = _names_of(fresh)
    for name in list(_names_of(kind)):
        if name not in own and name not in _OWN:
            _delete(kind, name)
    for name, value in list(own.items()):
        if name not in _OWN:
            _set(kind, name, _translated(value, fresh, members))
    kind.__annotations__ = dict(fresh.__annotations__)
    for name, member in members.items():
        replaced.append(dict(vars(member)))
        facts = {**vars(vars(fresh)["_member_map_"][name]), "__objclass__": kind}
        vars(member).clear()
        vars(member).update(facts)
    _set(kind, "__module__", records._HOME.__name__)
    return True


def _is_alike(kind: Any, fresh: type) -> bool:
    """Returns whether a class has the same metaclass, bases and layout, and was bound in the module of these classes."""
    if type(kind) is not type(fresh):
        return False
    names = _names_of(kind)
    return (
        all(type(name) is str for name in names)
        and names.get("__module__") == records._HOME.__name__
        and len(_bases_of(kind)) == len(_bases_of(fresh))
        and all(map(is_, _bases_of(kind), _bases_of(fresh)))
        and all(map(is_, kind.__mro__[1:], fresh.__mro__[1:]))
        and all(part(kind) == part(fresh) for part in _LAYOUT)
    )


def _members(kind: Any, fresh: Any) -> dict[str, Any] | None:
    """Returns the members of an enum by name; none of another class; None if they are not those of `fresh`."""
    if not issubclass(fresh, enum.Enum):
        return {}
    base = next(one for one in fresh.__mro__ if one in (*_BUILTINS, object))
    there = _names_of(kind).get("_member_map_")
    wanted = _names_of(fresh)["_member_map_"]
    if type(there) is not dict or [*there] != [*wanted]:
        return None
    for name, member in there.items():
        if type(member) is not kind:
            return None
        if base is not object and base.__eq__(member, wanted[name]) is not True:
            return None
    # Names for the same member there have the same member here, and no others.
    pairs = {(id(there[name]), id(wanted[name])) for name in wanted}
    if not len(pairs) == len(set(map(id, there.values()))) == len(set(map(id, wanted.values()))):
        return None
    return dict(there)


def _translated(value: Any, fresh: type, members: dict[str, Any]) -> Any:
    """Returns a part of the new class for the one that stays: with its members, and with no list."""
    if type(value) is list:
        return tuple(_translated(item, fresh, members) for item in value)
    if type(value) is dict:
        return {key: _translated(item, fresh, members) for key, item in value.items()}
    if members and type(value) is fresh:
        return members[cast(Any, value)._name_]
    return value
