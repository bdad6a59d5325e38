"""Functions around host functions: called by name, awaited, or wrapped on the host's side only."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspy_rlm.middleware import HostFunction

# On our own functions: whether a call gives something to await. `functools.wraps` carries it along.
AWAITS = "_dspy_rlm_awaits"


def naming(_name: str, function: HostFunction) -> HostFunction:
    """The function, called by name wherever its arguments have one: DSPy's own tools take no others."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it says nothing of its arguments
        return function
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if kinds & {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}:
        return function

    @functools.wraps(function)
    def invoke(*args: Any, **kwargs: Any) -> Any:
        return function(**by_name(signature, args, kwargs))

    return invoke


def awaiting(_name: str, function: HostFunction) -> HostFunction:
    """The function, with what it returns awaited: for those who can only call."""

    @functools.wraps(function)
    def invoke(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return run_coroutine(result) if inspect.iscoroutine(result) else result

    setattr(invoke, AWAITS, False)
    return invoke


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end from synchronous code, also below a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()


def by_name(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments as keywords, which is all that `dspy.Tool` takes. Raises `TypeError` for a misfit."""
    bound = signature.bind(*args, **kwargs)
    named = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(parameter.name, {}))
    return named


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of the function gives something to await."""
    told: bool | None = getattr(function, AWAITS, None)
    if told is not None:
        return told
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is looked at
    )
