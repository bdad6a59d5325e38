"""Finds where CPython stores the pointers that an object consists of, in a 32-bit interpreter.

Works for the version in the image only: each offset is searched for, and if it is not found, this raises
while the image is built. It only computes addresses; it writes nothing.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator, Sequence

# By name: a cell that replaces them in their modules does not replace them here.
from ctypes import CDLL, c_char, c_uint32, cast, py_object
from gc import get_referents
from typing import Any

WORD = 4

# An object starts with its reference count, then its type.
_TYPE = WORD

# A dictionary's number of items; see CPython's `dictobject.h` for its table of keys.
_USED = 2 * WORD
_WATCHED = 4 * WORD
_TABLE_INDEX_BITS = 5
_TABLE_KIND = 6
_TABLE_ENTRIES = 4 * WORD
_TABLE_INDICES = 5 * WORD
_GENERAL, _TEXT_KEYS = 0, 1

# Addresses below this hold Emscripten's constants.
_FIRST = 1024

# How many words of an object are searched for a pointer that must be there.
_WORDS_OF_CLASS = 64


# The C functions themselves: a cell can replace the attributes of the ctypes classes.
_at: Any = type(c_uint32).from_address
_value: Any = vars(c_uint32.__base__)["value"]


def read(address: int) -> int:
    """Returns a word of memory."""
    number: int = _value.__get__(_at(c_uint32, address))
    return number


def _byte(address: int) -> int:
    """Returns a byte of memory."""
    return read(address & ~3) >> 8 * (address & 3) & 0xFF


Names = dict[str, Any]


def type_names(kind: type) -> Names:
    """Returns the dictionary of a class."""
    [names] = (one for one in get_referents(kind.__dict__) if type(one) is dict)
    return names


class Memory:
    """Finds field offsets once, in sample objects, then returns the addresses for any object."""

    def __init__(self) -> None:
        """Raises RuntimeError if the interpreter has another memory layout."""

        def outer(thing: object) -> Any:
            def sample(a: Any = thing, *, b: Any = thing) -> Any:
                return thing, a, b

            return sample

        function: types.FunctionType = outer(object())
        self._in_function = tuple(
            _place(function, part, 24)
            for part in (function.__code__, function.__defaults__, function.__kwdefaults__)
        )
        [cell] = function.__closure__ or ()
        self._in_cell = _place(cell, cell.cell_contents, 4)
        parts: tuple[Any, Any, Any] = (outer(1), outer(2), outer(3))
        self._in_property = tuple(_place(property(*parts), part, 8) for part in parts)
        self._in_method = _place(staticmethod(function), function, 8)
        if _place(classmethod(function), function, 8) != self._in_method:
            raise RuntimeError("class methods have another form than static ones")
        names = {"a": object(), "b": object()}
        self._table = next(
            place
            for place in range(3 * WORD, 8 * WORD, WORD)
            if _is_table(read(id(names) + place), names)
        )

    def of_names(
        self, names: dict[Any, Any], fixed: Sequence[Any], *, sealed: bool
    ) -> Iterator[int]:
        """Yields the words of a dictionary that hold the values of some of its names."""
        yield self.key_table(names)
        if sealed:
            yield id(names) + _USED
        missing = set(fixed)
        entries = _entries(read(id(names) + self._table))
        known = {id(key): key for key in names}
        for key, place in entries:
            if known.get(key) in missing:
                missing.discard(known[key])
                yield place
        if missing:
            raise RuntimeError(f"{sorted(missing)[:3]} were not found in a dictionary's memory")

    def key_table(self, names: dict[Any, Any]) -> int:
        """Returns the address of the word of a dictionary that points to its table of keys."""
        return id(names) + self._table

    @staticmethod
    def of_watch(names: dict[Any, Any]) -> Iterator[int]:
        """Yields the word of a dictionary that holds whether it is watched; see `type_watch.py`."""
        if read(id(names) + _WATCHED) & 1 == 0:
            raise RuntimeError("a dictionary is not watched")
        yield id(names) + _WATCHED

    def of_function(self, function: types.FunctionType) -> Iterator[int]:
        """Yields the words of a function that hold its code and defaults."""
        for place in self._in_function:
            yield id(function) + place

    def of_descriptor(self, thing: Any) -> Iterator[int]:
        """Yields the words of a property, class method or static method that hold its functions."""
        for place in self._in_property if isinstance(thing, property) else (self._in_method,):
            yield id(thing) + place

    def of_cell(self, cell: types.CellType) -> Iterator[int]:
        """Yields the word of a closure cell that holds its value."""
        yield id(cell) + self._in_cell

    def of_class(self, kind: type, fixed: Sequence[str]) -> Iterator[int]:
        """Yields the words of a class that hold its attributes and its bases."""
        yield from self.of_object(kind)
        [names] = (one for one in get_referents(kind.__dict__) if type(one) is dict)
        for part in (names, kind.__bases__, kind.__mro__):
            yield id(kind) + _place(kind, part, _WORDS_OF_CLASS)
        yield from self.of_names(names, fixed, sealed=True)

    def of_object(self, thing: Any) -> Iterator[int]:
        """Yields the words of an object that hold its class and its `__dict__`."""
        yield id(thing) + _TYPE
        if not isinstance(thing, type):
            yield id(thing) + _place(thing, vars(thing), 8, before=4)


def audit_hooks() -> list[Any]:
    """Returns the interpreter's own list of audit hooks, emptied. Scans all memory for it, once."""
    nothing: dict[str, Any] = {}
    hook = nothing.get  # accepts the arguments of a hook, and is in no other list
    sys.addaudithook(hook)
    end = CDLL(None).sbrk(0) & 0xFFFFFFFF
    # Searched in place: a copy would double the memory that the boot image has to hold.
    heap = (c_char * (end - _FIRST)).from_address(_FIRST)
    for items in _addresses_of(heap, id(hook)):
        for place in _addresses_of(heap, items):
            head = place - 3 * WORD
            if read(head + _TYPE) == id(list) and read(head + _USED) == 1:
                hooks: list[Any] = cast(head, py_object).value
                hooks.clear()
                return hooks
    raise RuntimeError("the list of audit hooks was not found")


def _addresses_of(heap: Any, value: int) -> Iterator[int]:
    """Yields the address of each word with this value. `heap` is a buffer that starts at `_FIRST`."""
    pattern = re.compile(re.escape(value.to_bytes(WORD, "little")))
    match = pattern.search(heap)
    while match is not None:
        if match.start() % WORD == 0:
            yield _FIRST + match.start()
        match = pattern.search(heap, match.start() + 1)


def _place(holder: Any, part: Any, words: int, before: int = 0) -> int:
    """Returns the offset at which an object holds the pointer to one of its parts."""
    for place in range(-before * WORD, words * WORD, WORD):
        if read(id(holder) + place) == id(part):
            return place
    raise RuntimeError(f"a {type(holder).__name__} holds no pointer to its {type(part).__name__}")


def _entries(table: int) -> list[tuple[int, int]]:
    """Returns each key's address, and the address of the word that holds its value."""
    kind = _byte(table + _TABLE_KIND)
    if kind not in (_GENERAL, _TEXT_KEYS):
        raise RuntimeError("a dictionary keeps its values outside its table of keys")
    bits = _byte(table + _TABLE_INDEX_BITS)
    first = table + _TABLE_INDICES + (1 << bits)
    size, key = (3 * WORD, WORD) if kind == _GENERAL else (2 * WORD, 0)
    count = read(table + _TABLE_ENTRIES)
    starts = range(first, first + count * size, size)
    return [(read(at + key), at + key + WORD) for at in starts if read(at + key + WORD) != 0]


def _is_table(address: int, names: dict[str, Any]) -> bool:
    """Returns whether a dictionary's table of keys is at an address."""
    if address < 4096 or address % WORD:
        return False
    # Most words are no table, and what lies where they point may be taken for a table of millions of entries.
    if read(address + _TABLE_ENTRIES) != len(names):
        return False
    try:
        items = [(key, read(value)) for key, value in _entries(address)]
    except (RuntimeError, ValueError):
        return False
    return items == [(id(key), id(value)) for key, value in names.items()]
