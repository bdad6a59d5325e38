"""A snapshot of the harness: its modules, classes, functions and fixed objects, and how to restore them.

Python lets any code change any of these. So each pointer in them is checked before every request, which
costs microseconds: `integrity.ts` compares the words of memory at the addresses listed here. If one
has changed, a single function restores everything. That function looks up no names; it uses only its
closure, which `integrity.ts` verifies and restores first.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import builtins
import types
from array import array
from collections.abc import Callable, Iterable, Iterator
from ctypes import PYFUNCTYPE, py_object, pythonapi
from typing import Any, cast

from sandbox_runtime.guest.integrity.object_memory import Memory, type_names
from sandbox_runtime.guest.integrity.whole_check import Namespace, Originals, checker

Names = dict[str, Any]
Items = tuple[tuple[str, Any], ...]

# Attributes that belong to one class alone, or that the interpreter itself changes.
_NOT_FIXED = (
    "__dict__",
    "__weakref__",
    "_abc_impl",
    "__annotations_cache__",
    "__static_attributes__",
)

# In modules that are not ours, only names bound to these types are restored. Such modules may change
# their other values.
_KINDS = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Yields the names of a function's code and of the functions in it; attributes too, which do no harm."""
    yield from code.co_names
    for part in code.co_consts:
        if type(part) is types.CodeType:
            yield from _global_names(part)


def _only(names: Names, own: Items, others: Iterable[str] | None) -> Namespace:
    """Returns a dictionary that may have some `others` besides its own; None: any."""
    known = [name for name, _ in own]
    allowed = None if others is None else frozenset(others)
    if allowed is not None and not allowed.isdisjoint(known):
        allowed -= frozenset(known)
    return Namespace(names, own, allowed)


def give_dictionary(thing: Any) -> None:
    """Gives an object a `__dict__` allocated on its own, instead of values inlined in the object."""
    thing.__dict__ = dict(vars(thing))


# Invalidates the interpreter's attribute cache of a class. All foundations share it: to look a C function up takes
# longer than the rest of a small one.
_FORGET: Any = PYFUNCTYPE(None, py_object)(("PyType_Modified", pythonapi))

# The C class of C functions. A cell can change the class that Python derives from it, and the settings of a function,
# which deleting resets to those that it was created with.
[_C_FUNCTION] = (vars(kind) for kind in type(_FORGET).__mro__ if "errcheck" in vars(kind))
_C_SETTINGS = tuple(_C_FUNCTION[name] for name in ("errcheck", "restype", "argtypes"))


class Foundation:
    """A set of fixed objects. Adding one also adds the objects that it consists of."""

    def __init__(
        self,
        belongs: Callable[[str], bool],
        volatile: Iterable[str] = (),
        near: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Starts empty.

        Args:
            belongs: Tells by a module's name whether its functions and classes are tracked.
            volatile: Class attributes that legitimately change.
            near: Tells by a module's name whether it is near; see `locator`.
        """
        self._belongs = belongs
        self._near = near
        self._far: set[int] = set()  # the dictionaries of modules that are not near
        self._volatile = frozenset(volatile)
        self._seen: dict[int, Any] = {}  # keeps them alive, so that no id is reused
        self._names: list[tuple[Names, Items, frozenset[str] | None]] = []
        self._tables: list[tuple[dict[Any, Any], tuple[tuple[Any, Any], ...]]] = []
        self._functions: list[tuple[types.FunctionType, Any, Any, Any]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._descriptors: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self._classes: list[tuple[type, Items, tuple[type, ...]]] = []
        self._objects: list[tuple[Any, type, Names]] = []
        self._plain: list[int] = []
        self._fixed_classes: list[tuple[type, Names, Items]] = []

    def _ours(self, module: Any) -> bool:
        return type(module) is str and self._belongs(module)

    # ---- Adding objects ----

    def add_module(
        self,
        module: types.ModuleType,
        *,
        whole: bool,
        codes: Iterable[types.CodeType] = (),
        changing: Iterable[str] = (),
    ) -> None:
        """Adds a module: all its names, or only those bound to functions and classes.

        Args:
            module: The module.
            whole: Whether all of its names are fixed.
            codes: The code that runs in it. Names that a cell adds to a module stay, and one that hides a
                builtin would be used in its place: so the builtins that the code uses are bound here, and fixed.
            changing: The names that its functions bind themselves.
        """
        if self._is_known(module):
            return
        self._objects.append((module, type(module), vars(module)))
        if not self._near(module.__name__):
            self._far.add(id(vars(module)))
        values, known, changing = vars(module), vars(builtins), frozenset(changing)
        # Names such as `__spec__` are among the builtins too, and mean the module's own. Python's own instructions
        # find `__import__` and `__build_class__` in the builtins only; `__builtins__` is where new functions get these.
        used = {name for code in codes for name in _global_names(code) if name[:2] != "__"}
        bound = used & known.keys() - values.keys()
        values.update((name, known[name]) for name in sorted(bound))
        fixed = (
            name
            for name, value in values.items()
            if (whole or name in bound or name == "__builtins__" or isinstance(value, _KINDS))
            and name not in changing
        )
        self.add_names(values, fixed)

    def add_names(
        self, names: Names, fixed: Iterable[str], *, changing: Iterable[str] | None = None
    ) -> None:
        """Adds some items of a dictionary. If `changing` is passed, no keys beyond these and `fixed` are allowed."""
        own = tuple((name, names[name]) for name in fixed)
        self._is_known(names)
        others = None if changing is None else frozenset(changing)
        self._names.append((names, own, others))
        for _, value in own:
            self.add(value)

    def add_object(self, thing: Any, changing: Iterable[str] = ()) -> None:
        """Adds an object with a `__dict__`; all its attributes are fixed except those in `changing`."""
        if self._is_known(thing):
            return
        give_dictionary(thing)
        self.add_kind(thing)
        changing = frozenset(changing)
        self.add_names(vars(thing), sorted(set(vars(thing)) - changing), changing=changing)
        self.add(type(thing))

    def add_kind(self, thing: Any) -> None:
        """Adds an object's class and the identity of its `__dict__`, but not the contents."""
        self._objects.append((thing, type(thing), vars(thing)))

    def add(self, thing: Any) -> None:
        """Adds a function or class and what it consists of, if it is tracked; ignores anything else."""
        if isinstance(thing, types.MethodType):
            self.add(thing.__func__)
        elif isinstance(thing, (staticmethod, classmethod)):
            self._add_descriptor(thing, (thing.__func__,))
        elif isinstance(thing, property):
            self._add_descriptor(thing, (thing.fget, thing.fset, thing.fdel))
        elif isinstance(thing, types.FunctionType):
            if self._ours(thing.__module__) and not self._is_known(thing):
                self._add_function(thing)
        elif isinstance(thing, type):
            fixed = thing.__flags__ & (1 << 8)  # Py_TPFLAGS_IMMUTABLETYPE: an immutable C type
            if self._ours(thing.__module__) and not fixed and not self._is_known(thing):
                self.add_class(thing)

    def add_table(self, table: dict[Any, Any]) -> None:
        """Adds a dictionary whose keys may be of any immutable type. All its items are fixed."""
        if not self._is_known(table):
            self._tables.append((table, tuple(table.items())))

    def add_function(self, function: types.FunctionType) -> None:
        """Adds a function from any module; one that is not tracked brings its own names along."""
        if self._is_known(function):
            return
        if not self._ours(function.__module__):
            self.add_table(function.__globals__)
        self._add_function(function)

    def _add_function(self, function: types.FunctionType) -> None:
        defaults = function.__defaults__
        self._functions.append((function, function.__code__, defaults, function.__kwdefaults__))
        for names in (function.__kwdefaults__, function.__dict__):
            if names:
                self.add_names(names, tuple(names))
        for cell in function.__closure__ or ():
            if not self._is_known(cell):
                self._add_cell(cell)

    def _add_descriptor(self, thing: Any, parts: tuple[Any, ...]) -> None:
        """Adds an object whose `__init__` can be called again, with other functions."""
        if self._is_known(thing):
            return
        [begin] = (
            kind.__init__
            for kind in (property, staticmethod, classmethod)
            if isinstance(thing, kind)
        )
        self._descriptors.append((thing, begin, parts))
        for part in parts:
            self.add(part)

    def _add_cell(self, cell: types.CellType) -> None:
        try:
            contents = cell.cell_contents
        except ValueError:  # empty
            return
        self._cells.append((cell, contents))
        self.add(contents)

    def add_class(self, kind: type) -> None:
        """Adds a class from any module. Attributes that it does not have now are not allowed later."""
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
        """Adds words of the interpreter's own memory that do not point to Python objects."""
        self._plain.extend(addresses)

    def add_fixed_class(self, kind: type) -> None:
        """Adds an immutable C type. Its dictionary can still be changed: `gc.get_referents` returns it."""
        names = type_names(kind)
        self._fixed_classes.append((kind, names, tuple(names.items())))

    # ---- Locating ----

    def locator(self, memory: Memory) -> types.FunctionType:
        """Returns a function that lists the address of each word that must not change, four bytes each.

        Those of what is near come first; both parts are sorted. Everything it uses is in its closure, which `core` covers.
        """
        near, far = self._lister(memory, near=True), self._lister(memory, near=False)

        def locate() -> bytes:
            first, others = set(near()), set(far())
            others -= first
            words = array("I", sorted(first))
            words.extend(sorted(others))
            return words.tobytes()

        return cast(types.FunctionType, locate)

    def _lister(self, memory: Memory, *, near: bool) -> Callable[[], Iterator[int]]:
        def chosen(module: Any) -> bool:
            return (type(module) is not str or self._near(module)) is near

        dictionaries = tuple(one for one in self._names if (id(one[0]) not in self._far) is near)
        functions = tuple(one for one in self._functions if chosen(one[0].__module__))
        classes = tuple(one for one in self._classes if chosen(one[0].__module__))
        # Of these there are few.
        tables = tuple(self._tables) if near else ()
        cells = tuple(self._cells) if near else ()
        descriptors = tuple(self._descriptors) if near else ()
        objects = tuple(self._objects) if near else ()
        plain = tuple(self._plain) if near else ()
        fixed_classes = tuple(self._fixed_classes) if near else ()

        def words() -> Iterator[int]:
            yield from plain
            for _, names, own in fixed_classes:
                yield from memory.of_watch(names)
                yield from memory.of_names(names, [name for name, _ in own], sealed=True)
            for names, own, others in dictionaries:
                fixed = [name for name, _ in own]
                yield from memory.of_names(names, fixed, sealed=others is not None)
            for table, _ in tables:
                yield from memory.of_names(table, tuple(table), sealed=True)
            for function, *_ in functions:
                yield from memory.of_function(function)
            for cell, _ in cells:
                yield from memory.of_cell(cell)
            for thing, *_ in descriptors:
                yield from memory.of_descriptor(thing)
            for kind, items, _ in classes:
                yield from memory.of_class(kind, [name for name, _ in items])
            for thing, *_ in objects:
                yield from memory.of_object(thing)

        return words

    def core(self, functions: Iterable[types.FunctionType], memory: Memory) -> bytes:
        """Returns the addresses of the words that functions consist of, including their closures.

        Words that do not point to objects are included as address plus one: they hold no reference.
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

    # ---- Restoring ----

    def checker(self) -> types.FunctionType:
        """Returns a function that returns whether everything is restored; see `whole_check.py`."""
        unfixed = frozenset(_NOT_FIXED) | frozenset(self._volatile)
        return checker(
            Originals(
                [
                    *(_only(names, own, ()) for _, names, own in self._fixed_classes),
                    *(_only(*names) for names in self._names),
                    *(_only(type_names(kind), own, unfixed) for kind, own, _ in self._classes),
                ],
                self._tables,
                self._functions,
                self._cells,
                self._descriptors,
                self._classes,
                self._objects,
            )
        )

    def putter(self) -> types.FunctionType:
        """Returns a function that restores everything. It looks up no names; it uses only its closure."""
        dictionaries, tables = tuple(self._names), tuple(self._tables)
        functions = tuple(self._functions)
        cells = tuple(self._cells)
        descriptors = tuple(self._descriptors)
        classes = tuple(self._classes)
        objects = tuple(self._objects)
        # Under other names: in the closure, the same name would hide the builtin on this line.
        type_of, str_type, to_list, to_dict, to_tuple = type, str, list, dict, tuple
        set_on_class, drop_from_class = type.__setattr__, type.__delattr__
        class_names = type.__dict__["__dict__"].__get__
        set_on_object = object.__setattr__
        extend, empty, names_of = dict.update, dict.clear, vars
        raised = BaseException
        fixed_classes = tuple(self._fixed_classes)
        drop = dict.__delitem__
        forget, forget_kind, call = _FORGET, type(_FORGET), _C_FUNCTION["__call__"]
        settings = tuple((setting.__get__, setting.__delete__) for setting in _C_SETTINGS)
        unfixed = frozenset(_NOT_FIXED) | frozenset(self._volatile)

        def put_all_back() -> None:
            dropped: tuple[Any, ...] = ()  # finalized only after everything is restored
            if type_of(forget) is not forget_kind:
                dropped += (type_of(forget),)
                set_on_object(forget, "__class__", forget_kind)
            for current, reset in settings:
                dropped += (current(forget),)
                reset(forget)
            for kind, names, own in fixed_classes:  # first: the rest relies on them
                known = to_dict(own)
                for key in to_list(names):
                    if type_of(key) is not str_type or key not in known:
                        dropped += (names[key],)
                        drop(names, key)
                extend(names, own)
                call(forget, kind)
            for names, own, others in dictionaries:
                for key in to_list(names):
                    if type_of(key) is not str_type:
                        # Such a key can define `__eq__` and `__hash__`: a lookup in its bucket would run its code.
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
            for table, pairs in tables:
                dropped += to_tuple(table.items())
                empty(table)
                extend(table, pairs)
            for function, code, defaults, keywords in functions:
                if function.__code__ is not code:
                    function.__code__ = code
                if function.__defaults__ is not defaults:
                    function.__defaults__ = defaults
                if function.__kwdefaults__ is not keywords:
                    function.__kwdefaults__ = keywords
            for cell, contents in cells:
                cell.cell_contents = contents
            for thing, begin, parts in descriptors:
                begin(thing, *parts)
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
