"""A run's sandbox in a thread of its own, so that an event loop stays free while it works.

Waiting in line for a sandbox takes no thread. Leaving, also by cancellation, waits for nothing: what the
run has started is stopped from another thread, and its own ends when it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from dspy_rlm.errors import RunEndedError
from dspy_rlm.jobs import fulfil
from dspy_rlm.task import Task
from sandbox_runtime import Sandbox

P = ParamSpec("P")
T = TypeVar("T")


class OwnThread:
    """A thread that does one thing after another. A daemon: a tool that never returns holds up nobody."""

    def __init__(self, name: str = "rlm-sandbox") -> None:
        """Starts the thread."""
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the work, which runs in a copy of the caller's context."""
        return await asyncio.wrap_future(self.submit(work, *args, **kwargs))

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Like `do`, for who does not wait."""
        job: Future[T] = Future()
        context = contextvars.copy_context()
        self._jobs.put((job, functools.partial(context.run, work, *args, **kwargs)))
        return job

    def end(self) -> None:
        """Ends the thread after what it was given."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            fulfil(*entry)
            del entry  # not kept while it waits for the next


async def apart(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of the work, from a thread of its own: those of the loop may all wait for this run."""
    thread = OwnThread("rlm-inputs")
    try:
        return await thread.do(work, *args, **kwargs)
    finally:
        thread.end()


class Offloaded:
    """A task's sandbox and the thread that it is used in. Neither is there before it is opened."""

    def __init__(self, task: Task) -> None:
        """Opens nothing yet."""
        self._task = task
        self._thread: OwnThread | None = None
        self._opened = contextlib.ExitStack()  # entered and left in the thread
        self._around = contextlib.ExitStack()  # entered and left on the event loop

    async def open(self) -> tuple[Sandbox, OwnThread]:
        """Waits until it is this run's turn, without a thread, and opens the sandbox in one."""
        seat = self._task.seat()
        if seat is not None:
            self._opened.callback(seat.leave)
            await seat.sit()
        self._thread = OwnThread()
        self._around.enter_context(self._task.around(seat))
        sandbox = await self._thread.do(self._opened.enter_context, self._task.opened(seat))
        return sandbox, self._thread

    async def close(self) -> None:
        """Closes the sandbox, and waits for that."""
        self._around.close()
        if self._thread is not None:
            await self._thread.do(self._opened.close)

    def leave(self) -> None:
        """Has closed what is still open, also where opening it ends only now; waits for nothing."""
        self._around.close()
        if self._thread is None:
            self._opened.close()  # no more than a seat
            return
        self._thread.submit(self._opened.close)
        self._thread.end()


@contextlib.asynccontextmanager
async def offloaded(task: Task) -> AsyncIterator[Offloaded]:
    """The sandbox of a task, to be opened. Leaving stops what the run has started."""
    with contextlib.ExitStack() as ways_out:
        ways_out.callback(task.place.stop.stop, RunEndedError("The run has ended."))
        work = Offloaded(task)
        ways_out.callback(work.leave)
        yield work
