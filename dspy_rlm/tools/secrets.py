"""The secrets that a tool holds: what is bound to it, and the state of its object and of its client.

The environment's secrets and those with a known form are recognised anyway. A key that a program has read from a vault,
and passed to a client, is known only from there.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import dspy

from dspy_rlm.lms.secrets import SecretSearch

# Functions that are searched: the tools, and those that they hold or call, such as decorators.
_MAX_FUNCTIONS = 200

_FUNCTIONS = (FunctionType, MethodType, partial)

# The search is repeated after so many seconds: a client may have fetched a new token.
_FRESH_SECONDS = 1.0


class ToolSecrets:
    """The secrets of some tools, searched for when they are first asked for. Thread-safe."""

    def __init__(
        self, tools: Iterable[dspy.Tool] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Searches nothing yet. `clock` returns seconds."""
        self._clock = clock
        self._functions = [tool.func for tool in tools]
        self._lock = threading.Lock()  # guards the two below
        self._found: list[str] = []
        self._until = 0.0

    def __call__(self) -> list[str]:
        """Returns the secrets."""
        with self._lock:
            if self._functions and self._clock() >= self._until:
                self._found = secrets_of_functions(self._functions)
                self._until = self._clock() + _FRESH_SECONDS
            return self._found


def secrets_of_functions(functions: Iterable[Callable[..., Any]]) -> list[str]:
    """Returns the texts that some functions, and those that they call, hold and that are secrets.

    They are judged by name and form.
    """
    found: dict[str, None] = {}
    waiting: deque[Any] = deque(functions)
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_FUNCTIONS:
        function = waiting.popleft()
        if id(function) in seen:
            continue
        seen.add(id(function))
        search = SecretSearch()
        for name, value in _held_by(function):
            if isinstance(value, _FUNCTIONS):
                waiting.append(value)
            elif not isinstance(value, (type, ModuleType, BuiltinFunctionType)):
                attributes = list(getattr(value, "__dict__", {}).values())
                waiting += [part for part in attributes if isinstance(part, _FUNCTIONS)]
                found.update(dict.fromkeys(search.within(name, value, 1)))
    return list(found)


def _held_by(function: Any) -> Iterator[tuple[str, Any]]:
    """Yields what a function holds, by name: bound arguments, its object, defaults, the variables that it uses."""
    if isinstance(function, partial):
        yield from function.keywords.items()
        yield from _named(function).items()
        yield "", function.func
    elif isinstance(function, MethodType):
        yield "", function.__self__
        yield "", function.__func__
    elif isinstance(function, FunctionType):
        yield from _variables_of(function)
    else:
        yield "", function
        yield "", getattr(function, "__wrapped__", None)  # of a cache


def _named(function: partial[Any]) -> dict[str, Any]:
    """Returns the arguments that a partial binds by position, under the names of their parameters."""
    try:
        return dict(inspect.signature(function.func).bind_partial(*function.args).arguments)
    except (TypeError, ValueError):  # it has no signature, or takes fewer arguments
        return {}


def _variables_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yields the defaults of a function, and the variables around it that it uses."""
    code = function.__code__
    defaults = function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # it is not assigned yet
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]
