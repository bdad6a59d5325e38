"""Restores the filters of warnings, which Python consults whenever it warns: also as the harness compiles a cell.

A filter can be an object with methods of its own. Those that can run no code stay, so that a cell which silences warnings
silences those of later cells as well. Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import _warnings
import warnings

# By name: a cell that replaces them in their modules does not replace them here.
from builtins import all, int, len, list, map, str, tuple, type
from contextvars import ContextVar
from operator import is_
from re import Pattern
from typing import Any

# Other filters than those of the module, for the code of one context.
_context: ContextVar[Any] = getattr(_warnings, "_warnings_context", ContextVar("warnings_context"))

_ACTIONS = frozenset(("error", "ignore", "always", "all", "default", "module", "once"))

# A line number beyond this raises as it is compared.
_MAX_LINE = 2**31 - 1


class WarningFilters:
    """A snapshot of the filters, and its restoring."""

    def __init__(self) -> None:
        """Takes the snapshot."""
        self._names = vars(warnings)
        self._filters: list[Any] = self._names["filters"]
        self._entries = tuple(self._filters)
        self._seen: dict[Any, Any] = self._names["onceregistry"]
        self.own = {
            name: self._names[name] for name in ("filters", "defaultaction", "onceregistry")
        }
        """The attributes of the module that are restored."""

    def restore(self, kept: list[Any]) -> None:
        """Restores whatever has changed, and keeps the plain filters that cells have added.

        Calls only C functions. Adds to `kept` what it replaces.
        """
        names, filters, entries = self._names, self._filters, self._entries
        now = names.get("filters")
        if now is not filters:
            kept += filters
            if type(now) is list:
                filters[:] = now
        kept += map(names.get, self.own)
        names.update(self.own)
        if len(filters) != len(entries) or not all(map(is_, filters, entries)):
            kept += filters
            if not all(map(is_plain, filters)):
                filters[:] = [entry for entry in filters if is_plain(entry)]
        if self._seen:
            kept += self._seen.items()
            self._seen.clear()
        if (other := _context.get(None)) is not None:
            kept.append(other)
            _context.set(None)


def is_plain(entry: Any) -> bool:
    """Returns whether a filter consists of plain parts, whose comparison runs no code of a cell."""
    if type(entry) is not tuple or len(entry) != 5:
        return False
    action, message, category, module, line = entry
    return (
        type(action) is str
        and action in _ACTIONS
        and _is_plain_pattern(message)
        and type(category) is type
        and _is_plain_pattern(module)
        and type(line) is int
        and 0 <= line <= _MAX_LINE
    )


def _is_plain_pattern(pattern: Any) -> bool:
    if type(pattern) is Pattern:
        return type(pattern.pattern) is str  # one of bytes raises as it is compared
    return pattern is None or type(pattern) is str
