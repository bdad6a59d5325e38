"""Restores the lists and registries from which Python calls functions on its own.

These are neither modules nor classes (see `namespace_guard.py`): the interpreter consults them at every
import, garbage collection, encoding error and unhandled exception, in whichever cell that happens. Where
libraries add entries when they are imported, a cell's entries are moved behind the original ones; elsewhere
they are removed. Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import encodings
import gc
import sys
import threading
from _signal import SIGALRM, SIGINT, valid_signals  # type: ignore[import-not-found]
from _signal import getsignal as handler_of
from _signal import signal as set_handler

# By name: a cell that replaces them in their modules does not replace them here.
from abc import ABCMeta
from builtins import all, len, list, map, tuple, type, zip
from codecs import lookup, lookup_error
from codecs import register_error as set_error_handler
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copyreg import dispatch_table
from enum import EnumType
from gc import enable as start_collector
from gc import set_debug as set_collector_debug
from gc import set_threshold as set_thresholds
from itertools import repeat
from operator import is_
from typing import Any, cast

from sandbox_runtime.guest.integrity.namespace_guard import Names, put
from sandbox_runtime.guest.integrity.warning_filters import WarningFilters

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


# Attributes of `sys` that importing also reads, and that no cell needs to change.
_SETTINGS = ("pycache_prefix", "dont_write_bytecode", "flags", "implementation", "platlibdir")

# Attributes of `threading` that each new thread reads.
_THREAD_HOOKS = ("excepthook", "__excepthook__", "_trace_hook", "_profile_hook")


class Hooks:
    """A snapshot of the interpreter's hooks, and its restoring."""

    def __init__(self, *, whole: bool = False, audits: Sequence[list[Any]] = ()) -> None:
        """Takes the snapshot.

        Args:
            whole: Also restore the hooks of the garbage collector and of codecs, and the filters of warnings: for an
                interpreter that runs nothing but cells.
            audits: The interpreter's list of audit hooks, which Python itself does not expose.
        """
        functions = {
            name: value for name, value in vars(sys).items() if callable(value) or name in _SETTINGS
        }
        self._names: tuple[tuple[Any, Names], ...] = (
            (vars(sys), functions),
            (dispatch_table, cast(Names, dict(dispatch_table))),
            (vars(threading), {name: vars(threading)[name] for name in _THREAD_HOOKS}),
        )
        self._lists: tuple[tuple[str, list[Any], tuple[Any, ...]], ...] = tuple(
            (name, getattr(sys, name), tuple(getattr(sys, name)))
            for name in ("meta_path", "path_hooks", "path")
        )
        self._finders = sys.path_importer_cache
        self._codecs: tuple[tuple[Names, Names], ...] = ()
        self._known_handlers: tuple[Names, ...] = ()
        self._whole = whole
        self.warning_filters = WarningFilters() if whole else None
        """The filters of warnings, if they are restored."""
        if whole:
            self._sealed = tuple(
                (found, tuple(found)) for found in (gc.callbacks, *_searches(), *audits)
            )
            self._error_names = _ERROR_HANDLERS
            self._error_handlers = tuple(map(lookup_error, _ERROR_HANDLERS))
            found = _dictionaries_with(lookup_error("strict"))
            self._known_handlers = tuple(one for one in found if "strict" in one)
            self._codecs = tuple((found, dict(found)) for found in _known_codecs())
            self._thresholds = gc.get_threshold()
            self._signals, self._signal_handlers = zip(*_signal_handlers(), strict=True)

    @property
    def own_names(self) -> tuple[Names, ...]:
        """The dictionaries that names are restored from; nothing else may change them."""
        filters = (self.warning_filters.own,) if self.warning_filters else ()
        return (*(own for _, own in (*self._names, *self._codecs)), *filters)

    def restore(self, kept: list[Any] | None = None) -> None:
        """Restores whatever has changed. Calls only C functions, which run none of a cell's code.

        Expects that the keys of `vars(sys)`, `vars(threading)` and of `registries` are texts. What is replaced is added to `kept`, so that nothing is finalized. The
        collector stays paused if it is.
        """
        kept = [] if kept is None else kept
        functions, picklers, threads = self._names
        kept += vars(sys).values()
        vars(sys).update(functions[1])
        kept += map(vars(threading).get, threads[1])
        vars(threading).update(threads[1])
        self._restore_picklers(picklers[1], kept)
        for name, hooks, own in self._lists:
            kept += hooks
            if sys.__dict__.get(name) is not hooks:
                self._take_over(name, hooks)
            first_in(hooks, own)
        only_texts(sys.path)
        if type(sys.__dict__.get("tracebacklimit", 0)) is not int:
            del sys.__dict__["tracebacklimit"]
        # Importing fills the cache again from the hooks above.
        sys.__dict__["path_importer_cache"] = self._finders
        kept += self._finders.items()
        self._finders.clear()
        for known, codecs in self._codecs:
            if len(known) != len(codecs) or not all(map(is_, known.values(), codecs.values())):
                put(known, codecs, kept, sealed=True)
        self._restore_called(kept)
        self.restore_handlers(kept)
        if self.warning_filters is not None:
            self.warning_filters.restore(kept)

    @staticmethod
    def _restore_picklers(own: Names, kept: list[Any]) -> None:
        now = cast(Names, dispatch_table)
        is_same = len(now) == len(own) and all(map(is_, now, own))
        if is_same and all(map(is_, now.values(), own.values())):
            return
        kept += now.items()
        plain = [item for item in now.items() if _is_plain(type(item[0]))]
        now.clear()
        now.update(plain)
        now.update(own)

    @property
    def registries(self) -> tuple[Names, ...]:
        """The interpreter's dictionaries of codecs and of handlers of errors, whose keys are texts."""
        return (*(known for known, _ in self._codecs), *self._known_handlers)

    def silence(self) -> None:
        """Restores only the hooks that Python may call at almost any step, and starts the collector."""
        if self._whole:
            self._restore_called([])
            start_collector()

    def start(self) -> None:
        """Starts the collector."""
        if self._whole:
            start_collector()

    def _restore_called(self, kept: list[Any]) -> None:
        if not self._whole:
            return
        for hooks, items in self._sealed:
            kept += hooks
            hooks[:] = items
        set_collector_debug(0)
        set_thresholds(*self._thresholds)

    def restore_handlers(self, kept: list[Any] | None = None) -> None:
        """Restores the handlers of errors in texts, and of signals."""
        if not self._whole:
            return
        kept = [] if kept is None else kept
        if not all(map(is_, map(lookup_error, self._error_names), self._error_handlers)):
            kept += (handler for known in self._known_handlers for handler in known.values())
            for error, handler in zip(self._error_names, self._error_handlers, strict=True):
                set_error_handler(error, handler)
        if not all(map(is_, map(handler_of, self._signals), self._signal_handlers)):
            for number, handler in zip(self._signals, self._signal_handlers, strict=True):
                kept.append(set_handler(number, handler))

    def note_path(self) -> None:
        """Takes a new snapshot of `sys.path`."""
        self._lists = tuple(
            (name, hooks, tuple(hooks) if name == "path" else own)
            for name, hooks, own in self._lists
        )

    @staticmethod
    def _take_over(name: str, hooks: list[Any]) -> None:
        """Replaces a list with our own, which takes over the entries if it was a plain list."""
        other = sys.__dict__.get(name)
        if type(other) is list:
            hooks[:] = other
        sys.__dict__[name] = hooks


def _is_plain(kind: type) -> bool:
    """Returns whether a key of this type is a class. Any other can define its own equality."""
    return kind is type or kind is ABCMeta or kind is EnumType


def first_in(hooks: list[Any], own: Sequence[Any]) -> None:
    """Moves the original entries to the front, in their order. Compares by identity only."""
    for one, other in zip(hooks, own, strict=False):
        if one is not other:
            break
    else:
        if len(hooks) >= len(own):
            return
    known = {id(one) for one in own}
    hooks[:] = [*own, *(one for one in hooks if id(one) not in known)]


def only_texts(folders: list[Any]) -> None:
    """Removes entries that are not exactly `str`: importing would call their methods."""
    if not all(map(is_, map(type, folders), repeat(str))):
        folders[:] = [folder for folder in folders if type(folder) is str]


def _signal_handlers() -> Iterator[tuple[int, Any]]:
    """Yields the signals that can have a handler, with it; not those that the driver takes itself."""
    for number in sorted(valid_signals() - {SIGINT, SIGALRM}):
        handler = handler_of(number)
        with suppress(OSError, ValueError):  # some can have none, as SIGKILL
            set_handler(number, handler)
            yield number, handler


def _searches() -> list[list[Any]]:
    """Returns the interpreter's list of codec search functions."""
    return _lists_with(encodings.search_function)


def _known_codecs() -> list[Names]:
    """Returns the caches of codecs, of the interpreter and of the `encodings` package."""
    return _dictionaries_with(lookup("utf-8"))


def _dictionaries_with(item: Any) -> list[Names]:
    return [one for one in gc.get_referrers(item) if type(one) is dict and item in one.values()]


def _lists_with(item: Any) -> list[list[Any]]:
    return [one for one in gc.get_referrers(item) if type(one) is list and one[:1] == [item]]
