"""The secrets in an LM: its key, its headers, passwords in its addresses, and attributes of its class."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import dspy

from sandbox_runtime.helpers import is_secret_name, secrets_of

# Attributes of an LM that are not settings, and may be large.
_NO_SETTINGS = frozenset({"history", "callbacks", "_meter", "_unmetered"})

# Settings that are sent unchanged: any text in them may be a credential, whatever its name.
_OPEN = frozenset(
    {"headers", "extra_headers", "default_headers", "extra_query", "default_query", "extra_body", "query"}
)  # fmt: skip

# Headers and parameters that are not secret.
_HARMLESS = frozenset(
    {"accept", "accept-encoding", "api-version", "content-type", "host", "http-referer", "user-agent", "x-title"}
)  # fmt: skip

# Bounds of the search through an LM's values. The client of a provider has its key at depth 2.
_MAX_DEPTH, _MAX_VALUES = 5, 5_000


def secrets_of_lm(lm: Any) -> list[str]:
    """Returns the texts in an LM's state that are secrets, judged by name and form."""
    search = _Search()
    return list(dict.fromkeys(search.within("", lm, 0)))


class _Search:
    def __init__(self) -> None:
        self._seen: set[int] = set()

    def within(
        self, name: object, value: Any, depth: int, *, open_to: bool = False
    ) -> Iterator[str]:
        if depth > _MAX_DEPTH or len(self._seen) > _MAX_VALUES or id(value) in self._seen:
            return
        if isinstance(value, (str, bytes)) or hasattr(value, "get_secret_value"):
            yield from secrets_of(name, value)
            if open_to and isinstance(value, str) and _may_open(name, value):
                yield from secrets_of("secret", value)
            return
        self._seen.add(id(value))
        if isinstance(value, Mapping):
            for key, part in list(value.items()):
                named = name if is_secret_name(name) else key
                within = open_to or (isinstance(key, str) and key.lower() in _OPEN)
                yield from self.within(named, part, depth + 1, open_to=within)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for part in list(value):
                yield from self.within(name, part, depth + 1, open_to=open_to)
        elif isinstance(value, functools.partial):
            yield from self.within(name, [value.args, value.keywords], depth + 1)
        elif isinstance(value, (type, ModuleType, FunctionType, int, float)) or value is None:
            return
        elif isinstance(value, dspy.BaseLM) or depth > 0:
            own = getattr(value, "__dict__", {})
            for key, part in list(own.items()):
                if key not in _NO_SETTINGS:
                    within = key.lstrip("_") in _OPEN
                    yield from self.within(key, part, depth + 1, open_to=within)


def _may_open(name: object, value: str) -> bool:
    """Returns whether a text that is sent unchanged may be a secret: words and versions are not."""
    harmless = isinstance(name, str) and name.lower() in _HARMLESS
    return not harmless and any(map(str.isdigit, value)) and any(map(str.isalpha, value))
