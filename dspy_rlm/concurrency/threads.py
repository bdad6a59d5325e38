"""Work in threads of its own, so that an event loop stays free while it goes on."""

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


async def in_new_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of the work, from a thread of its own: those of the loop may all wait for this run."""
    thread = WorkerThread("rlm-inputs")
    try:
        return await thread.do(work, *args, **kwargs)
    finally:
        thread.end()


def fulfil(job: Future[T], work: Callable[[], T]) -> None:
    """Does the work in this thread, unless the job was cancelled before. Raises nothing."""
    if not job.set_running_or_notify_cancel():
        return
    try:
        job.set_result(work())
    except BaseException as error:  # noqa: BLE001 - who waits for the job sees it
        job.set_exception(error)
