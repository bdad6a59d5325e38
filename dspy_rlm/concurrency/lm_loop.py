"""An event loop in a thread of its own, for LM calls of threads: a call that is abandoned is cancelled there.

Cancelling a coroutine closes its connection, so that a server stops working on it; a thread that waits for
a socket cannot be made to close it. All runs of the process share one loop, and so the connections to an LM.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.dspy_internals.short_steps import ShortStepsLoop
from sandbox_runtime.helpers import start_thread

T = TypeVar("T")

_lock = threading.Lock()  # guards _loops
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a fork has no thread of its parent


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = ShortStepsLoop()
            start_thread(loop.run_forever, "rlm-lm-calls")
        return loop


def run_on_loop(scope: CancelScope, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Returns the result of the coroutine, which runs on the shared loop in a copy of the caller's context.

    Once the scope is cancelled, or the waiting thread is interrupted, the coroutine is cancelled. Then raises the
    scope's reason without waiting for its end.
    """
    scope.check()
    loop = _loop()
    outcome: Future[T] = Future()
    task: list[asyncio.Task[None]] = []

    async def run() -> None:
        try:
            result = await call()
        except BaseException as error:  # noqa: BLE001 - the future carries it to the waiting thread
            _set(outcome.set_exception, error)
        else:
            _set(outcome.set_result, result)

    def start() -> None:
        if not outcome.done():
            task.append(loop.create_task(run()))

    def abandon(error: BaseException) -> None:
        _set(outcome.set_exception, error)
        loop.call_soon_threadsafe(lambda: [one.cancel() for one in task])

    with scope.on_cancel(lambda: abandon(scope.reason_to_raise())):
        loop.call_soon_threadsafe(start, context=contextvars.copy_context())
        try:
            return outcome.result()
        except BaseException as error:
            abandon(error)  # also after an interrupt of the waiting thread, such as Ctrl-C
            raise


def _set(complete: Callable[[Any], None], value: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # abandoned, or ended meanwhile
        complete(value)
