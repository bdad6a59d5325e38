"""Wraps host functions: keyword arguments only, awaited results, coroutines run from synchronous code."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from dspy_rlm.protocols.middleware import HostFunction
from sandbox_runtime.helpers import counted, run_in_thread

# An attribute of our own functions: True if a call returns an awaitable. `functools.wraps` copies it.
AWAITS = "_dspy_rlm_awaits"


def naming(_name: str, function: HostFunction) -> HostFunction:
    """Wraps the function so that arguments are passed by name where possible, as DSPy's tools require."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it has no signature
        return function
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if kinds & {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}:
        return function

    @functools.wraps(function)
    def invoke(*args: Any, **kwargs: Any) -> Any:
        return function(**by_name(signature, args, kwargs))

    return invoke


def awaiting(_name: str, function: HostFunction) -> HostFunction:
    """Wraps the function so that a coroutine it returns is awaited, for synchronous callers."""

    @functools.wraps(function)
    def invoke(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return run_coroutine(result) if inspect.iscoroutine(result) else result

    setattr(invoke, AWAITS, False)
    return invoke


def counting(_name: str, function: HostFunction) -> HostFunction:
    """Wraps the function so that its processor time counts for the cell that calls it (`Limits.host_seconds`)."""

    @functools.wraps(function)
    def invoke(*args: Any, **kwargs: Any) -> Any:
        with counted():
            return function(*args, **kwargs)

    return invoke


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to completion from synchronous code, even inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return run_in_thread(functools.partial(asyncio.run, coroutine), "rlm-coroutine").result()


def by_name(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Returns the arguments as keywords, as `dspy.Tool` requires. Raises `TypeError` if they do not match."""
    bound = signature.bind(*args, **kwargs)
    named = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(parameter.name, {}))
    return named


def is_async(function: Callable[..., Any]) -> bool:
    """Returns True if a call of the function returns an awaitable."""
    awaits: bool | None = getattr(function, AWAITS, None)
    if awaits is not None:
        return awaits
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is inspected
    )
