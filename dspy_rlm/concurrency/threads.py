"""Threads for blocking work, so that the event loop stays free."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkerThread:
    """A daemon thread that runs jobs one at a time: a tool that never returns does not delay exit."""

    def __init__(self, name: str = "rlm-sandbox") -> None:
        """Starts the thread."""
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs the work in the thread, in a copy of the caller's context, and returns its result."""
        return await asyncio.wrap_future(self.submit(work, *args, **kwargs))

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedules work without waiting; returns its future."""
        job: Future[T] = Future()
        context = contextvars.copy_context()
        self._jobs.put((job, functools.partial(context.run, work, *args, **kwargs)))
        return job

    def end(self) -> None:
        """Ends the thread after the jobs that are queued."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            fulfil(*entry)
            del entry  # not kept alive while the thread waits for the next


async def in_new_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs the work in a new thread: those of the loop's executor may all be waiting for this run."""
    thread = WorkerThread("rlm-inputs")
    try:
        return await thread.do(work, *args, **kwargs)
    finally:
        thread.end()


def fulfil(job: Future[T], work: Callable[[], T]) -> None:
    """Runs the work in this thread, unless the job was cancelled before. Never raises."""
    if not job.set_running_or_notify_cancel():
        return
    try:
        job.set_result(work())
    except BaseException as error:  # noqa: BLE001 - who waits for the job sees it
        job.set_exception(error)
