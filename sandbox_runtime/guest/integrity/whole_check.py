"""Checks that the parts of a foundation are the original ones, after they were restored.

What is replaced while a foundation is restored may have finalizers. They run in the middle of it, and can change once more what
was restored before. So what is there afterwards is compared with the originals before it is taken for the harness.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

Names = dict[str, Any]
Items = Sequence[tuple[str, Any]]

# The functions that return the parts of a descriptor. Members of C types, which run no code.
_PARTS_OF: dict[type, tuple[Callable[[Any], Any], ...]] = {
    property: tuple(vars(property)[name].__get__ for name in ("fget", "fset", "fdel")),
    staticmethod: (vars(staticmethod)["__func__"].__get__,),
    classmethod: (vars(classmethod)["__func__"].__get__,),
}


class Namespace(NamedTuple):
    """Items of a dictionary, and the other keys that it may have; None: any texts."""

    names: Names
    own: Items
    allowed: frozenset[str] | None


class Originals(NamedTuple):
    """The parts of a foundation; see there. `namespaces` begin with those of C types, on which the rest relies."""

    namespaces: Iterable[Namespace]
    tables: Iterable[tuple[dict[Any, Any], tuple[tuple[Any, Any], ...]]]
    functions: Iterable[tuple[types.FunctionType, Any, Any, Any]]
    cells: Iterable[tuple[types.CellType, Any]]
    descriptors: Iterable[tuple[Any, Any, tuple[Any, ...]]]
    classes: Iterable[tuple[type, Items, tuple[type, ...]]]
    objects: Iterable[tuple[Any, type, Names]]


def checker(originals: Originals) -> types.FunctionType:
    """Returns a function that returns whether everything is the original.

    It looks up no names, only its closure, which the core covers. It runs no other code, and frees nothing but its own.
    """
    namespaces = tuple((*one, _other_keys(one.own)) for one in originals.namespaces)
    tables, functions = tuple(originals.tables), tuple(originals.functions)
    cells, objects = tuple(originals.cells), tuple(originals.objects)
    descriptors = tuple(_parts(originals.descriptors))
    classes = tuple((kind, type(kind), bases, kind.__mro__) for kind, _, bases in originals.classes)
    type_of, str_type, names_of = type, str, vars
    get, pairs_of, nothing, together, count = dict.get, dict.items, object(), zip, len
    bases_of, order_of = (vars(type)[name].__get__ for name in ("__bases__", "__mro__"))
    code_of, defaults_of, keywords_of = (
        vars(types.FunctionType)[name].__get__
        for name in ("__code__", "__defaults__", "__kwdefaults__")
    )
    contents_of, is_empty = vars(types.CellType)["cell_contents"].__get__, ValueError

    def is_whole() -> bool:
        for names, own, allowed, other_keys in namespaces:
            added = 0
            for key in names:
                if type_of(key) is str_type:
                    if allowed is not None and key in allowed:
                        added += 1
                    continue
                # Such a key can define its own equality. It is neither hashed nor compared here.
                for other in other_keys:
                    if key is other:
                        break
                else:
                    return False
            for name, value in own:
                if get(names, name, nothing) is not value:
                    return False
            if allowed is not None and count(names) != count(own) + added:
                return False
        for table, pairs in tables:
            if count(table) != count(pairs):
                return False
            for (key, value), (own_key, own_value) in together(pairs_of(table), pairs):
                if key is not own_key or value is not own_value:
                    return False
        for function, code, defaults, keywords in functions:
            if code_of(function) is not code or defaults_of(function) is not defaults:
                return False
            if keywords_of(function) is not keywords:
                return False
        for cell, contents in cells:
            try:
                if contents_of(cell) is not contents:
                    return False
            except is_empty:
                return False
        for thing, parts in descriptors:
            for part_of, part in parts:
                if part_of(thing) is not part:
                    return False
        for kind, meta, bases, order in classes:
            if type_of(kind) is not meta or bases_of(kind) is not bases:
                return False
            if count(order_of(kind)) != count(order):
                return False
            for base, own_base in together(order_of(kind), order):
                if base is not own_base:
                    return False
        for thing, kind, names in objects:
            if type_of(thing) is not kind or names_of(thing) is not names:
                return False
        return True

    return cast(types.FunctionType, is_whole)


def _other_keys(own: Items) -> tuple[Any, ...]:
    """Returns the keys that are not texts."""
    return tuple(key for key, _ in own if type(key) is not str)


def _parts(
    descriptors: Iterable[tuple[Any, Any, tuple[Any, ...]]],
) -> Iterator[tuple[Any, tuple[tuple[Callable[[Any], Any], Any], ...]]]:
    for thing, _, parts in descriptors:
        [getters] = (own for kind, own in _PARTS_OF.items() if isinstance(thing, kind))
        yield thing, tuple(zip(getters, parts, strict=True))
