"""The event loop on which LM calls of DSPy run: it performs DSPy's short steps in place.

`LM.acall` passes three steps of each call to a thread, because they can block in rare cases: preparing the request (media
may be files), selecting the client (the first one may read credentials), and pricing (the first time, a table is
downloaded). Where they cannot block, the switch to a thread and back costs more than the step: with 64 calls in flight,
threads that wait for the interpreter's lock take most of the time (`benchmarks/concurrency.py`).
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from dspy import lm15
from dspy.clients import execution, model_metadata
from dspy.clients.engines.lm15_engine import AsyncLM15Engine

# DSPy's message about the cost of a model that its table does not have.
NO_PRICE = {"kind": "unknown", "reason": "no matching pricing entry"}

# Models that are remembered as missing in DSPy's table, where each search for one looks at every entry.
MAX_REMEMBERED = 256


_EventLoop: Any = getattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop)


class ShortStepsLoop(_EventLoop):
    """An event loop that runs DSPy's short steps in its own thread, and everything else as any loop does."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """See `asyncio.loop.run_in_executor`."""
        step = _step_of(func) if executor is None and not args else None
        if step is None:
            return super().run_in_executor(executor, func, *args)
        outcome: asyncio.Future[Any] = self.create_future()
        try:
            outcome.set_result(None if _has_no_price(*step) else func())
        except Exception as error:  # noqa: BLE001 - the coroutine raises it
            outcome.set_exception(error)
        return outcome


def _step_of(fn: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """Returns the function and the arguments of a step that does not block now; None for any other call.

    `asyncio.to_thread` passes `partial(context.run, function, *arguments)`.
    """
    function: Any
    function, *arguments = getattr(fn, "args", None) or (None,)
    if function is execution.prepare:
        is_short = not isinstance(arguments[1], lm15.Request) and "request" not in arguments[3]
    elif function is execution._price_result:
        is_short = model_metadata._data is not None  # loaded
    elif getattr(function, "__func__", None) is AsyncLM15Engine._target:
        is_short = bool(function.__self__._providers)  # created
    else:
        return None
    return (function, tuple(arguments)) if is_short else None


def _has_no_price(function: Any, arguments: tuple[Any, ...]) -> bool:
    """Returns whether the step is to price a call of a model that the table does not have; then this is its result."""
    if function is not execution._price_result:
        return False
    lm, result, response, provider, _request = arguments
    if getattr(lm, "_providers", ()) or provider is None:
        return False  # a provider that the program has declared names its own part of the table
    if not _is_missing(provider, lm.model, str(response.model)):
        return False
    result.cost, result.cost_details = None, dict(NO_PRICE)
    return True


@functools.lru_cache(maxsize=MAX_REMEMBERED)
def _is_missing(provider: str, requested: str, answered: str) -> bool:
    """Returns whether the table has neither the requested model nor the one that the reply names."""
    names = {requested, requested.partition("/")[2], answered}
    return not any(model_metadata.model_info(provider, name) for name in names if name)
