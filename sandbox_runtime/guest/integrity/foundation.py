"""What the harness consists of: its modules, classes, functions and fixed objects, as they were made.

Python lets any code change any of these. So each pointer that they consist of is looked at before every
request, in a way that costs microseconds: `integrity.ts` compares the words of memory whose addresses
are given here. Where one is not what it was, one function puts everything back. It uses nothing that a
name leads to, only its closure, and `integrity.ts` first sees to that itself.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import types
from array import array
from collections.abc import Callable, Iterable, Iterator
from ctypes import py_object, pythonapi
from gc import get_referents
from typing import Any, cast

from sandbox_runtime.guest.integrity.object_memory import Memory

Names = dict[str, Any]
Items = tuple[tuple[str, Any], ...]

# Of a class, and of no use to another; or changed by the interpreter itself.
_NOT_FIXED = (
    "__dict__",
    "__weakref__",
    "_abc_impl",
    "__annotations_cache__",
    "__static_attributes__",
)

# What a module's names are put back to, of modules that are not ours: functions and the like. Their
# other values are theirs to change.
_KINDS = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)


def give_dictionary(thing: Any) -> None:
    """Gives an object a dictionary with a place of its own in memory, apart from the class's layout."""
    thing.__dict__ = dict(vars(thing))


def _forget_attributes() -> Callable[[type], None]:
    """What has the interpreter look the attributes of a class up anew, where it has such a function."""
    forget = pythonapi["PyType_Modified"]  # an object of its own
    forget.argtypes, forget.restype = [py_object], None
    return cast(Callable[[type], None], forget)


class Foundation:
    """Fixed objects, added one by one; each leads to those that it is made of."""

    def __init__(self, belongs: Callable[[str], bool], volatile: Iterable[str] = ()) -> None:
        """Knows nothing yet.

        Args:
            belongs: Whether the functions and classes of a module belong here, by its name.
            volatile: Attributes of classes that change as they should.
        """
        self._belongs = belongs
        self._volatile = frozenset(volatile)
        self._seen: dict[int, Any] = {}  # keeps them, so that no other object gets their place
        self._names: list[tuple[Names, Items, frozenset[str] | None]] = []
        self._functions: list[tuple[types.FunctionType, Any, Any, Any]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._classes: list[tuple[type, Items, tuple[type, ...]]] = []
        self._objects: list[tuple[Any, type, Names]] = []
        self._plain: list[int] = []
        self._fixed_classes: list[tuple[type, Names, Items]] = []

    def _ours(self, module: Any) -> bool:
        return type(module) is str and self._belongs(module)

    # ---- What is fixed ----

    def add_module(self, module: types.ModuleType, *, whole: bool) -> None:
        """A module: all its names, or only those of functions and classes."""
        if self._is_known(module):
            return
        self._objects.append((module, type(module), vars(module)))
        values = vars(module)
        self.add_names(values, (k for k, v in values.items() if whole or isinstance(v, _KINDS)))

    def add_names(
        self, names: Names, fixed: Iterable[str], *, changing: Iterable[str] | None = None
    ) -> None:
        """Some items of a dictionary. With the names of those that change, it can have no other."""
        own = tuple((name, names[name]) for name in fixed)
        self._is_known(names)
        others = None if changing is None else frozenset(changing)
        self._names.append((names, own, others))
        for _, value in own:
            self.add(value)

    def add_object(self, thing: Any, changing: Iterable[str] = ()) -> None:
        """An object with a dictionary, of which all attributes but some stay what they are."""
        if self._is_known(thing):
            return
        give_dictionary(thing)
        self.add_kind(thing)
        changing = frozenset(changing)
        self.add_names(vars(thing), sorted(set(vars(thing)) - changing), changing=changing)
        self.add(type(thing))

    def add_kind(self, thing: Any) -> None:
        """An object with a dictionary: its class, and which dictionary it has, not what is in that."""
        self._objects.append((thing, type(thing), vars(thing)))

    def add(self, thing: Any) -> None:
        """A function or a class, and what it is made of, as far as it is ours. Of others, nothing."""
        if isinstance(thing, (staticmethod, classmethod, types.MethodType)):
            self.add(thing.__func__)
        elif isinstance(thing, property):
            for part in (thing.fget, thing.fset, thing.fdel):
                self.add(part)
        elif isinstance(thing, types.FunctionType):
            if self._ours(thing.__module__) and not self._is_known(thing):
                self._add_function(thing)
        elif isinstance(thing, type):
            fixed = thing.__flags__ & (1 << 8)  # of C, and unchangeable
            if self._ours(thing.__module__) and not fixed and not self._is_known(thing):
                self.add_class(thing)

    def _add_function(self, function: types.FunctionType) -> None:
        defaults = function.__defaults__
        self._functions.append((function, function.__code__, defaults, function.__kwdefaults__))
        for names in (function.__kwdefaults__, function.__dict__):
            if names:
                self.add_names(names, tuple(names))
        for cell in function.__closure__ or ():
            if not self._is_known(cell):
                self._add_cell(cell)

    def _add_cell(self, cell: types.CellType) -> None:
        try:
            contents = cell.cell_contents
        except ValueError:  # empty
            return
        self._cells.append((cell, contents))
        self.add(contents)

    def add_class(self, kind: type) -> None:
        """A class, whosever it is. It can have no attribute that it has not now."""
        items = tuple(
            (name, value)
            for name, value in vars(kind).items()
            if name not in _NOT_FIXED and name not in self._volatile
        )
        self._classes.append((kind, items, kind.__bases__))
        for base in kind.__bases__:
            self.add(base)
        for _, value in items:
            self.add(value)

    def _is_known(self, thing: Any) -> bool:
        known = id(thing) in self._seen
        self._seen[id(thing)] = thing
        return known

    def add_words(self, addresses: Iterable[int]) -> None:
        """Words of the interpreter's own, which lead to no object."""
        self._plain.extend(addresses)

    def add_fixed_class(self, kind: type) -> None:
        """A class of C that Python says cannot be changed: its dictionary can, by who asks the collector for it."""
        [names] = (one for one in get_referents(kind.__dict__) if type(one) is dict)
        self._fixed_classes.append((kind, names, tuple(names.items())))

    # ---- Where it lies ----

    def locator(self, memory: Memory) -> types.FunctionType:
        """The function that says the address of each word that has to stay what it is, in four bytes each.

        What it goes through is in its closure, where `core` sees to it.
        """
        dictionaries = tuple(self._names)
        functions = tuple(self._functions)
        cells = tuple(self._cells)
        classes = tuple(self._classes)
        objects = tuple(self._objects)
        plain = tuple(self._plain)
        fixed_classes = tuple(self._fixed_classes)

        def words() -> Iterator[int]:
            yield from plain
            for _, names, own in fixed_classes:
                yield from memory.of_names(names, [name for name, _ in own], sealed=True)
            for names, own, others in dictionaries:
                fixed = [name for name, _ in own]
                yield from memory.of_names(names, fixed, sealed=others is not None)
            for function, *_ in functions:
                yield from memory.of_function(function)
            for cell, _ in cells:
                yield from memory.of_cell(cell)
            for kind, items, _ in classes:
                yield from memory.of_class(kind, [name for name, _ in items])
            for thing, *_ in objects:
                yield from memory.of_object(thing)

        def locate() -> bytes:
            return array("I", sorted(set(words()))).tobytes()

        return cast(types.FunctionType, locate)

    def core(self, functions: Iterable[types.FunctionType], memory: Memory) -> bytes:
        """The addresses of the words that functions consist of, those in their closures among them.

        And of the words that lead to no object, each plus one: they count no reference.
        """
        words = [address + 1 for address in self._plain]
        waiting = [*functions]
        seen: set[int] = set()
        while waiting:
            function = waiting.pop()
            if id(function) in seen:
                continue
            seen.add(id(function))
            words += memory.of_function(function)
            for cell in function.__closure__ or ():
                words += memory.of_cell(cell)
                if isinstance(cell.cell_contents, types.FunctionType):
                    waiting.append(cell.cell_contents)
        return array("I", words).tobytes()

    # ---- How it is put back ----

    def putter(self) -> types.FunctionType:
        """The function that puts all of it back. It looks up no name: its closure is all it uses."""
        dictionaries = tuple(self._names)
        functions = tuple(self._functions)
        cells = tuple(self._cells)
        classes = tuple(self._classes)
        objects = tuple(self._objects)
        # Under other names: in a closure its own name would hide the builtin from this line.
        type_of, str_type, to_list, to_dict = type, str, list, dict
        set_on_class, drop_from_class = type.__setattr__, type.__delattr__
        class_names = type.__dict__["__dict__"].__get__
        set_on_object = object.__setattr__
        extend, empty, names_of = dict.update, dict.clear, vars
        raised = BaseException
        fixed_classes = tuple(self._fixed_classes)
        drop, forget = dict.__delitem__, _forget_attributes()
        unfixed = frozenset(_NOT_FIXED) | frozenset(self._volatile)

        def put_all_back() -> None:
            dropped: tuple[Any, ...] = ()  # finalised after all is in its place
            for kind, names, own in fixed_classes:  # first: all else is said in terms of them
                known = to_dict(own)
                for key in to_list(names):
                    if type_of(key) is not str_type or key not in known:
                        dropped += (names[key],)
                        drop(names, key)
                extend(names, own)
                forget(kind)
            for names, own, others in dictionaries:
                for key in to_list(names):
                    if type_of(key) is not str_type:
                        # It has a mind of its own: to look a name up beside it would ask it.
                        kept = [(k, v) for k, v in names.items() if type_of(k) is str_type]
                        empty(names)
                        extend(names, kept)
                        break
                extend(names, own)
                if others is not None:
                    known = to_dict(own)
                    for key in to_list(names):
                        if key not in known and key not in others:
                            dropped += (names.pop(key),)
            for function, code, defaults, keywords in functions:
                if function.__code__ is not code:
                    function.__code__ = code
                if function.__defaults__ is not defaults:
                    function.__defaults__ = defaults
                if function.__kwdefaults__ is not keywords:
                    function.__kwdefaults__ = keywords
            for cell, contents in cells:
                cell.cell_contents = contents
            for kind, items, bases in classes:
                if kind.__bases__ is not bases:
                    try:  # noqa: SIM105 - suppress() is Python that a cell can change
                        kind.__bases__ = bases
                    except raised:
                        pass
                there = class_names(kind)
                own_names = to_dict(items)
                for name, value in items:
                    if name not in there or there[name] is not value:
                        set_on_class(kind, name, value)
                for name in to_list(there):
                    if name not in own_names and name not in unfixed:
                        drop_from_class(kind, name)
            for thing, own_kind, names in objects:
                if type_of(thing) is not own_kind:
                    set_on_object(thing, "__class__", own_kind)
                if names_of(thing) is not names:
                    set_on_object(thing, "__dict__", names)

        return cast(types.FunctionType, put_all_back)
