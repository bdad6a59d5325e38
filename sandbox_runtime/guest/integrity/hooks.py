"""The places in which Python keeps functions to call by itself, and how they are put back.

Neither modules nor classes (`namespace_guard.py` has those): lists and registries of the interpreter, which it
looks into at every import, collection, encoding error and unhandled exception, in whichever cell that
happens. What a cell adds comes behind what was there, where libraries add something when they are
imported; elsewhere it goes. Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import encodings
import gc
import sys

# By name: a cell that replaces them in their modules does not replace them here.
from builtins import all, len, list, map, tuple
from codecs import lookup, lookup_error
from codecs import register_error as set_error_handler
from collections.abc import Sequence
from copyreg import dispatch_table
from gc import enable as start_collector
from gc import set_debug as set_collector_debug
from gc import set_threshold as set_thresholds
from itertools import repeat
from operator import is_
from typing import Any, cast

from sandbox_runtime.guest.integrity.namespace_guard import Names, merge_into, restore

_ERROR_HANDLERS = (
    "strict",
    "ignore",
    "replace",
    "xmlcharrefreplace",
    "backslashreplace",
    "namereplace",
    "surrogatepass",
    "surrogateescape",
)


# What importing asks, too, and no cell has a use for.
_SETTINGS = ("pycache_prefix", "dont_write_bytecode", "flags", "implementation", "platlibdir")


class Hooks:
    """The interpreter's hooks as they are when this is made."""

    def __init__(self, *, whole: bool = False, audits: Sequence[list[Any]] = ()) -> None:
        """Changes nothing yet.

        Args:
            whole: Also those of the garbage collector and of codecs: for an interpreter that runs
                nothing but cells.
            audits: The interpreter's list of audit hooks, to which Python itself gives no way.
        """
        functions = {
            name: value for name, value in vars(sys).items() if callable(value) or name in _SETTINGS
        }
        self._names: tuple[tuple[Any, Names], ...] = (
            (vars(sys), functions),
            (dispatch_table, cast(Names, dict(dispatch_table))),
        )
        self._lists: tuple[tuple[str, list[Any], tuple[Any, ...]], ...] = tuple(
            (name, getattr(sys, name), tuple(getattr(sys, name)))
            for name in ("meta_path", "path_hooks", "path")
        )
        self._finders = sys.path_importer_cache
        self._codecs: tuple[tuple[Names, Names], ...] = ()
        self._whole = whole
        if whole:
            self._sealed = tuple(
                (found, tuple(found)) for found in (gc.callbacks, *_searches(), *audits)
            )
            self._error_handlers = tuple((name, lookup_error(name)) for name in _ERROR_HANDLERS)
            self._codecs = tuple((found, dict(found)) for found in _known_codecs())
            self._thresholds = gc.get_threshold()

    @property
    def own_names(self) -> tuple[Names, ...]:
        """What names are put back to; nobody else may change it."""
        return tuple(own for _, own in (*self._names, *self._codecs))

    def restore(self) -> None:
        """Puts back what is not as it was. What this calls is of C, and calls nothing of a cell's."""
        for now, names in self._names:
            merge_into(now, names)
        for name, hooks, own in self._lists:
            if sys.__dict__.get(name) is not hooks:
                self._take_over(name, hooks)
            first_in(hooks, own)
        only_texts(sys.path)
        if type(sys.__dict__.get("tracebacklimit", 0)) is not int:
            del sys.__dict__["tracebacklimit"]
        # They are made anew when something is imported, from the hooks above.
        sys.__dict__["path_importer_cache"] = self._finders
        self._finders.clear()
        for known, codecs in self._codecs:
            if len(known) != len(codecs) or not all(map(is_, known.values(), codecs.values())):
                restore(known, codecs, sealed=True)
        self.silence()

    def silence(self) -> None:
        """Puts back only those that Python calls at almost any step."""
        if not self._whole:
            return
        for hooks, items in self._sealed:
            hooks[:] = items
        for error, handler in self._error_handlers:
            set_error_handler(error, handler)
        start_collector()
        set_collector_debug(0)
        set_thresholds(*self._thresholds)

    def note_path(self) -> None:
        """Takes the folders that modules are looked for in as they are now."""
        self._lists = tuple(
            (name, hooks, tuple(hooks) if name == "path" else own)
            for name, hooks, own in self._lists
        )

    @staticmethod
    def _take_over(name: str, hooks: list[Any]) -> None:
        """Puts our own list in the place of another, whose entries it takes if that is a list at all."""
        other = sys.__dict__.get(name)
        if type(other) is list:
            hooks[:] = other
        sys.__dict__[name] = hooks


def first_in(hooks: list[Any], own: Sequence[Any]) -> None:
    """Moves the own entries to the front, in their order. Compares nothing but identities."""
    for one, other in zip(hooks, own, strict=False):
        if one is not other:
            break
    else:
        if len(hooks) >= len(own):
            return
    known = {id(one) for one in own}
    hooks[:] = [*own, *(one for one in hooks if id(one) not in known)]


def only_texts(folders: list[Any]) -> None:
    """Leaves nothing but plain texts, which importing asks nothing."""
    if not all(map(is_, map(type, folders), repeat(str))):
        folders[:] = [folder for folder in folders if type(folder) is str]


def _searches() -> list[list[Any]]:
    """The interpreter's list of functions that find a codec by its name."""
    return _lists_with(encodings.search_function)


def _known_codecs() -> list[Names]:
    """The codecs that have been looked up, as the interpreter and its own search remember them."""
    codec = lookup("utf-8")
    return [one for one in gc.get_referrers(codec) if type(one) is dict and codec in one.values()]


def _lists_with(item: Any) -> list[list[Any]]:
    return [one for one in gc.get_referrers(item) if type(one) is list and one[:1] == [item]]
