"""Waits in a thread for the coroutines of tools, which run on the caller's event loop, or on one of our own."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
from collections.abc import Awaitable
from concurrent.futures import CancelledError, Future
from typing import Any

from sandbox_runtime.threads import start_thread
from sandbox_runtime.tools.exits import as_error


@dataclasses.dataclass
class Running:
    """A call in a thread."""

    coroutine: Future[Any] | None = None
    """The future that it waits for on the event loop."""


class Coroutines:
    """The coroutines that threads wait for. Thread-safe."""

    def __init__(self) -> None:
        """Starts no loop; `wait` does if it needs one."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The caller's event loop. None: a loop of our own, in a thread."""
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._awaited: set[Future[Any]] = set()
        self._lock = threading.Lock()  # guards both

    def wait(self, name: str, result: Awaitable[Any], running: Running | None) -> Any:
        """Waits in this thread for the result of a tool.

        Raises:
            InterruptedError: It was cancelled, or the call has timed out.
        """
        loop = self.loop or self._started_loop()
        coroutine = asyncio.run_coroutine_threadsafe(_contained(name, result), loop)
        if running is not None:
            running.coroutine = coroutine
        with self._lock:
            self._awaited.add(coroutine)
        try:
            return coroutine.result()
        except CancelledError:
            raise InterruptedError("the call was abandoned") from None
        except BaseException:
            coroutine.cancel()
            raise
        finally:
            with self._lock:
                self._awaited.discard(coroutine)

    @property
    def awaited(self) -> list[Future[Any]]:
        """The coroutines that are waited for; `wait` raises when one of them is cancelled."""
        with self._lock:
            return list(self._awaited)

    def close(self) -> None:
        """Stops the loop of our own."""
        with self._lock:
            loop, self._own_loop = self._own_loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._own_loop is None:
                self._own_loop = asyncio.new_event_loop()
                start_thread(functools.partial(_run_loop, self._own_loop), "host-tool-loop")
            return self._own_loop


async def _contained(name: str, result: Awaitable[Any]) -> Any:
    """Awaits a result. What would end the event loop's thread is raised as an error instead."""
    try:
        return await result
    except BaseException as raised:
        error = as_error(name, raised)
        if error is raised:
            raise
    raise error


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
