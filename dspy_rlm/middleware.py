"""Wrapping host functions: middleware around all that cells can call, applied in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from sandbox_runtime import WrappedTool

HostFunction: TypeAlias = Callable[..., Any]

Wrapper: TypeAlias = Callable[[str, HostFunction], HostFunction]
"""Gives the function of a name with something around it, or as it is."""


def wrap_all(
    functions: Mapping[str, HostFunction], wrappers: Iterable[Wrapper]
) -> dict[str, HostFunction]:
    """The functions by name, each inside of all wrappers; the last wrapper is the outermost.

    A function's side in the sandbox stays as it is.
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
