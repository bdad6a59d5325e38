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

from dspy_rlm.concurrency.jobs import fulfil
from dspy_rlm.errors import RunEndedError
from dspy_rlm.runs.sandbox import Task
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


@contextlib.asynccontextmanager
async def offloaded(task: Task) -> AsyncIterator[tuple[Sandbox, OwnThread]]:
    """The sandbox of a task, open, and the thread that it is to be used in.

    What cancels the run while this goes on gets its report as `run`.
    """
    with contextlib.ExitStack() as ways_out:
        ways_out.callback(task.place.stop.stop, RunEndedError("The run has ended."))
        try:
            async with _opened(task) as (sandbox, thread):
                yield sandbox, thread
        except asyncio.CancelledError as error:
            if not hasattr(error, "run"):
                error.run = task.run.fail(error)  # type: ignore[attr-defined]
            raise


@contextlib.asynccontextmanager
async def _opened(task: Task) -> AsyncIterator[tuple[Sandbox, OwnThread]]:
    seat = task.seat()
    try:
        if seat is not None:
            await seat.sit()
        thread = OwnThread()
    except BaseException:
        if seat is not None:
            seat.leave()
        raise
    opened = contextlib.ExitStack()
    if seat is not None:
        opened.callback(seat.leave)  # also where the thread never comes to open anything
    try:
        with task.around(seat):
            sandbox = await thread.do(opened.enter_context, task.opened(seat))
            yield sandbox, thread
        await thread.do(opened.close)
    finally:
        thread.submit(opened.close)  # also where opening it ends only now
        thread.end()
