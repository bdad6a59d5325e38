"""A sandbox in a thread of its own, so that an event loop stays free while it works."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from typing import ParamSpec, TypeVar

from sandbox_runtime import CellResult, Sandbox

P = ParamSpec("P")
T = TypeVar("T")


class OffloadedSandbox:
    """`Sandbox.run_cell` for `await`. Its thread is nobody else's: cells that wait cannot starve it."""

    def __init__(self, sandbox: Sandbox, thread: ThreadPoolExecutor) -> None:
        self._sandbox = sandbox
        self._thread = thread

    async def run_cell(self, code: str) -> CellResult:
        """See `Sandbox`. Runs in the caller's context."""
        return await _in_thread(self._thread, self._sandbox.run_cell, code)


@asynccontextmanager
async def offloaded(
    opening: Callable[[], AbstractContextManager[Sandbox]],
) -> AsyncIterator[OffloadedSandbox]:
    """Opens a sandbox in a thread. Leaving, also by cancellation, ends it and whatever it runs."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="rlm-sandbox")
    manager = opening()
    entering = asyncio.ensure_future(_in_thread(thread, manager.__enter__))
    try:
        # Shielded: a sandbox that is being opened must be there to be closed.
        sandbox = await asyncio.shield(entering)
        yield OffloadedSandbox(sandbox, thread)
    finally:
        entering.add_done_callback(lambda opened: _close(opened, manager))
        thread.shutdown(wait=False)


def _close(opened: asyncio.Future[Sandbox], manager: AbstractContextManager[Sandbox]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        manager.__exit__(None, None, None)


async def _in_thread(
    thread: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(thread, lambda: context.run(work, *args, **kwargs))
