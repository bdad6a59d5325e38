"""Restores the modules and classes that the driver relies on after a cell has changed them.

Runs inside the sandbox, so it uses the standard library only. Names that a cell adds to a module stay;
names that were there get their original values back.
"""

from __future__ import annotations

import ast
import codeop
import contextlib
import gc
import io
import json
import json.decoder
import json.encoder
import json.scanner
import keyword
import linecache
import re
import textwrap
import tokenize
import traceback
import types

# By name: a cell that replaces them in their modules does not replace them here.
from builtins import all, dict, len, list, map, setattr, str, type
from collections.abc import Iterable
from itertools import chain, islice, repeat
from operator import is_
from typing import Any

# Needed at the end of every cell and for its tool calls; most cells use these themselves.
MODULES = (json, json.decoder, json.encoder, json.scanner, contextlib, gc)
CLASSES = (json.JSONDecoder, json.JSONEncoder)

# Needed to report an exception.
TRACEBACK_MODULES = (
    ast,
    codeop,
    io,
    keyword,
    linecache,
    re,
    textwrap,
    tokenize,
    traceback,
    types,
)
TRACEBACK_CLASSES = (traceback.TracebackException, traceback.StackSummary, traceback.FrameSummary)

# Attributes that belong to one class alone.
_ONLY_ITS_OWN = ("__dict__", "__weakref__")

Names = dict[str, Any]


class NamespaceGuard:
    """A snapshot of the names of modules and classes, and its restoring."""

    def __init__(
        self,
        modules: tuple[types.ModuleType, ...],
        classes: tuple[type, ...],
        sealed: tuple[tuple[Names, Names], ...] = (),
    ) -> None:
        """Takes the snapshot.

        Args:
            modules: Modules to restore; names that a cell adds stay.
            classes: Classes to restore; attributes that a cell adds stay.
            sealed: Pairs of a namespace and its original items, in the same order; names that a cell
                adds are removed.
        """
        self._sealed = sealed
        self._modules = [(module.__dict__, dict(module.__dict__)) for module in modules]
        self._classes = [(kind, dict(kind.__dict__)) for kind in classes]
        parts: list[tuple[Any, Names]] = [*sealed, *self._modules]
        parts += [(kind.__dict__, own) for kind, own in self._classes]
        # One pass over all keys and values shows whether anything has changed.
        self._now: list[Iterable[Any]] = []
        self._own: list[Any] = []
        for now, own in parts:
            self._now += [now.keys(), now.values()]
            self._own += [*own.keys(), *own.values()]

    def restore(self) -> None:
        """Restores whatever has changed. Fast if nothing has."""
        if all(map(is_, chain.from_iterable(self._now), self._own)):
            return
        for now, own in self._sealed:
            restore(now, own, sealed=True)
        for now, own in self._modules:
            restore(now, own)
        for kind, own in self._classes:
            for name, value in own.items():
                if name not in _ONLY_ITS_OWN and kind.__dict__.get(name) is not value:
                    setattr(kind, name, value)


def restore(now: Names, own: Names, *, sealed: bool = False) -> None:
    """Sets the items of `own` in `now`; other items stay, unless it is sealed.

    Keys that are not exactly `str` are removed: they can define their own equality, or raise when compared.
    Such a key is neither hashed nor compared here.
    """
    if has_odd_keys(now):
        before = list(now.items())  # kept until the return, so that nothing is finalized in between
        now.clear()
        now.update([item for item in before if type(item[0]) is str])
    now.update(own)
    if sealed:
        for added in [name for name in now if name not in own]:
            del now[added]


def put(now: Names, own: Names, kept: list[Any], *, sealed: bool = False) -> None:
    """Sets the items of `own` in `now` as `restore` does. Adds to `kept` what was there, so that nothing is finalized.

    Fast if the items of `own` come first in `now`, as they do in most dictionaries.
    """
    added = len(now) - len(own)
    is_first = all(map(is_, now, own)) and all(map(is_, now.values(), own.values()))
    if is_first and (added == 0 or (added > 0 and not sealed)):
        if not all(map(is_, map(type, islice(now, len(own), None)), repeat(str))):
            drop_odd_keys(now, kept)
        return
    kept += now.items()
    restore(now, own, sealed=sealed)


def drop_odd_keys(now: Names, kept: list[Any]) -> None:
    """Removes the items whose keys are not exactly `str`, and adds them to `kept`."""
    if has_odd_keys(now):
        kept += now.items()
        restore(now, {})


def has_odd_keys(now: Names) -> bool:
    """Returns whether any key is not exactly a `str`."""
    return not all(map(is_, map(type, now), repeat(str)))


def merge_into(now: Names, own: Names) -> None:
    """Sets the items of `own` in `now`, whatever keys a cell has put there."""
    try:
        now.update(own)
    except BaseException:  # noqa: BLE001 - comparing with such a key may raise anything
        restore(now, own)
