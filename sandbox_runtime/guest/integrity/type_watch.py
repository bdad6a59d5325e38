"""Watches the dictionaries of C types, whose methods the interpreter caches.

A cell that gets hold of such a dictionary can put another method into it, have that one cached, and put the original back: then
every word is as before, but the cache is not. CPython counts the changes of the dictionaries that it watches as it does
that of the builtins. So these are watched as well, and `harness.ts` looks at the count.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import builtins

# By name: a cell that replaces them in their modules does not replace them here.
from ctypes import CDLL, c_int, py_object, pythonapi, string_at
from typing import Any

from sandbox_runtime.guest.integrity.object_memory import Names, type_names

# The watcher of the builtins, which CPython installs itself.
_WATCHER = 0

_PAGE = 4096
# How often the builtins are changed, one time after the other: nothing else grows by twice these numbers.
_TIMES = (1, 3, 2, 5, 1, 4, 2, 6)


def watch(kinds: tuple[type, ...]) -> int:
    """Watches the dictionaries of C types. Returns the address of the byte that counts their changes, up to 255.

    Raises:
        RuntimeError: The interpreter counts no changes, or elsewhere.
    """
    begin: Any = pythonapi["PyDict_Watch"]
    begin.argtypes, begin.restype = (c_int, py_object), c_int
    for kind in kinds:
        if begin(_WATCHER, type_names(kind)) != 0:
            raise RuntimeError(f"{kind.__name__} cannot be watched")
    return _find_count(vars(builtins))


def _find_count(names: Names) -> int:
    """Returns the address of the byte that grows with each change of the builtins. Copies a page of memory at a time."""
    end = CDLL(None).sbrk(0) & 0xFFFFFFFF
    pages = range(_PAGE, end - _PAGE, _PAGE)
    before = [hash(string_at(page, _PAGE)) for page in pages]
    _change(names)
    changed = [
        page
        for page, known in zip(pages, before, strict=True)
        if hash(string_at(page, _PAGE)) != known
    ]
    found: set[int] | None = None
    for times in _TIMES:
        earlier = {page: string_at(page, _PAGE) for page in changed}
        for _ in range(times):
            _change(names)
        grown = {
            page + at
            for page, old in earlier.items()
            for at, (byte, now) in enumerate(zip(old, string_at(page, _PAGE), strict=True))
            if now == byte + 2 * times
        }
        found = grown if found is None else found & grown
    if found is None or len(found) != 1:
        raise RuntimeError(f"the count of changes is at {len(found or ())} places")
    return found.pop()


def _change(names: Names) -> None:
    """Changes the builtins twice."""
    names["_watched"] = object()
    del names["_watched"]
