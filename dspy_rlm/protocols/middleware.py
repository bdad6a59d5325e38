"""Middleware around the host functions that cells can call, applied in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, TypeAlias

from sandbox_runtime import WrappedTool

HostFunction: TypeAlias = Callable[..., Any]

Wrapper: TypeAlias = Callable[[str, HostFunction], HostFunction]
"""Takes a name and its function; returns the function, wrapped or unchanged."""


def only(names: Container[str], wrap: Wrapper) -> Wrapper:
    """Returns a wrapper for the functions with these names; it leaves the others unchanged."""
    return lambda name, function: wrap(name, function) if name in names else function


def wrap_all(
    functions: Mapping[str, HostFunction], wrappers: Iterable[Wrapper]
) -> dict[str, HostFunction]:
    """Returns the functions by name, each wrapped by all wrappers; the last one is the outermost.

    The sandbox side of a `WrappedTool` is not changed.
    """
    wrapped = dict(functions)
    for wrap in wrappers:
        for name, function in wrapped.items():
            if isinstance(function, WrappedTool):
                inner = wrap(name, function.function)
                wrapped[name] = dataclasses.replace(function, function=inner)
            else:
                wrapped[name] = wrap(name, function)
    return wrapped
