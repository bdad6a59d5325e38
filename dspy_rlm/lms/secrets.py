"""The secrets in an LM: its key, its headers, passwords in its addresses, and attributes of its class."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
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

# Bounds of the search through the values of an LM or a tool. The client of a provider has its key at depth 2.
_MAX_DEPTH, _MAX_VALUES, _MAX_ITEMS = 5, 5_000, 1_000

# Longer texts whose name does not say that they are secret are data. No key is as long.
_MAX_CHARS = 16_384


def secrets_of_lm(lm: Any) -> list[str]:
    """Returns the texts in an LM's state that are secrets, judged by name and form."""
    return list(dict.fromkeys(SecretSearch().within("", lm, 0)))


class SecretSearch:
    """A search through the state of objects, bounded in depth and size."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._left = _MAX_VALUES

    def within(
        self, name: object, value: Any, depth: int, *, open_to: bool = False
    ) -> Iterator[str]:
        """Yields the secrets in a named value.

        Args:
            name: The name of the value.
            value: The value.
            depth: How deep it is. Of an object at depth 0 only an LM is searched.
            open_to: Whether the value is sent unchanged, so that any text in it may be a credential.
        """
        if depth > _MAX_DEPTH or self._left <= 0 or id(value) in self._seen:
            return
        self._left -= 1
        if isinstance(value, (str, bytes)) and len(value) > _MAX_CHARS and not is_secret_name(name):
            return
        if isinstance(value, (str, bytes)) or hasattr(value, "get_secret_value"):
            yield from secrets_of(name, value)
            if open_to and isinstance(value, str) and _may_open(name, value):
                yield from secrets_of("secret", value)
            return
        self._seen.add(id(value))
        if isinstance(value, Mapping):
            for key, part in _first(value.items()):
                named = name if is_secret_name(name) else key
                within = open_to or (isinstance(key, str) and key.lower() in _OPEN)
                yield from self.within(named, part, depth + 1, open_to=within)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for part in _first(value):
                yield from self.within(name, part, depth + 1, open_to=open_to)
        elif isinstance(value, functools.partial):
            yield from self.within(name, [value.args, value.keywords], depth + 1)
        elif isinstance(value, (type, ModuleType, FunctionType, int, float)) or value is None:
            return
        elif isinstance(value, dspy.BaseLM) or depth > 0:
            own = getattr(value, "__dict__", {})
            for key, part in _first(own.items()):
                if key not in _NO_SETTINGS:
                    within = key.lstrip("_") in _OPEN
                    yield from self.within(key, part, depth + 1, open_to=within)


def _first(items: Iterable[Any]) -> list[Any]:
    """Returns the first items; none if another thread changes them meanwhile."""
    try:
        return list(itertools.islice(items, _MAX_ITEMS))
    except RuntimeError:
        return []


def _may_open(name: object, value: str) -> bool:
    """Returns whether a text that is sent unchanged may be a secret: words and versions are not."""
    harmless = isinstance(name, str) and name.lower() in _HARMLESS
    return not harmless and any(map(str.isdigit, value)) and any(map(str.isalpha, value))
