"""What the driver stands on in Python, and how it is put back after a cell has changed it.

Runs inside the sandbox, so it uses the standard library only. What a cell adds to a module stays; what was
there is as it was.
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
from builtins import all, dict, list, map, setattr, str, type
from collections.abc import Iterable
from itertools import chain, repeat
from operator import is_
from typing import Any

# What every cell needs for its end and its calls, and most cells use themselves.
MODULES = (json, json.decoder, json.encoder, json.scanner, contextlib, gc)
CLASSES = (json.JSONDecoder, json.JSONEncoder)

# What is needed to tell of an exception.
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

# Of a class, and of no use to another.
_ONLY_ITS_OWN = ("__dict__", "__weakref__")

Names = dict[str, Any]


class NamespaceGuard:
    """The names of modules and classes as they are when this is made."""

    def __init__(
        self,
        modules: tuple[types.ModuleType, ...],
        classes: tuple[type, ...],
        sealed: tuple[tuple[Names, Names], ...] = (),
    ) -> None:
        """Changes nothing yet.

        Args:
            modules: What a cell adds to them stays.
            classes: What a cell adds to them stays.
            sealed: Names, and those that they are to be, in the same order; what a cell adds goes.
        """
        self._sealed = sealed
        self._modules = [(module.__dict__, dict(module.__dict__)) for module in modules]
        self._classes = [(kind, dict(kind.__dict__)) for kind in classes]
        parts: list[tuple[Any, Names]] = [*sealed, *self._modules]
        parts += [(kind.__dict__, own) for kind, own in self._classes]
        # One look at all of them, keys and values, shows whether anything has changed.
        self._now: list[Iterable[Any]] = []
        self._own: list[Any] = []
        for now, own in parts:
            self._now += [now.keys(), now.values()]
            self._own += [*own.keys(), *own.values()]

    def restore(self) -> None:
        """Puts back what is not as it was. Fast if nothing has changed."""
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
    """Makes `now` have the items of `own`, and what else it had, unless it is sealed.

    A key that is no plain text goes: it has its own idea of what it is equal to, or raises when asked.
    Such a key is neither hashed nor compared here.
    """
    if has_odd_keys(now):
        before = list(now.items())  # kept to the end, so that nothing of it is finalised on the way
        now.clear()
        now.update([item for item in before if type(item[0]) is str])
    now.update(own)
    if sealed:
        for added in [name for name in now if name not in own]:
            del now[added]


def has_odd_keys(now: Names) -> bool:
    """Whether a key is no plain text."""
    return not all(map(is_, map(type, now), repeat(str)))


def merge_into(now: Names, own: Names) -> None:
    """Makes `now` have the items of `own`, whatever keys a cell has put there."""
    try:
        now.update(own)
    except BaseException:  # noqa: BLE001 - an odd key may raise anything
        restore(now, own)
