"""Every thread that this project starts: one thread, a bounded pool of them, a timer.

Daemon threads, because work that never returns must not keep the process alive. Knows nothing of the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# An idle thread of a pool ends after this.
IDLE_SECONDS = 2.0


def start_thread(work: Callable[[], object], name: str, *, daemon: bool = True) -> threading.Thread:
    """Starts a thread for the work. The interpreter waits for it at exit only if `daemon` is false."""
    thread = threading.Thread(target=work, name=name, daemon=daemon)
    thread.start()
    return thread


def run_in_thread(work: Callable[[], T], name: str, future: Future[T] | None = None) -> Future[T]:
    """Runs the work in a new daemon thread, in a copy of the caller's context.

    Args:
        work: The function to run.
        name: The thread's name.
        future: The future for its result or exception. Completing it first abandons the work, whose
            result is then dropped.
    """
    future = future or Future()
    job = functools.partial(contextvars.copy_context().run, work)
    start_thread(functools.partial(_complete, future, job), name)
    return future


def fulfil(future: Future[T], work: Callable[[], T]) -> None:
    """Runs the work in this thread, unless the future was cancelled before. Never raises."""
    if future.set_running_or_notify_cancel():
        _complete(future, work)


def _complete(future: Future[T], work: Callable[[], T]) -> None:
    """Sets the future's result or exception, unless it has been completed meanwhile."""
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - the future carries it to the waiting thread
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)
    else:
        with contextlib.suppress(InvalidStateError):
            future.set_result(result)


@contextlib.contextmanager
def call_after(
    seconds_left: Callable[[], float],
    work: Callable[[], object],
    name: str,
    *,
    poll_seconds: float = math.inf,
) -> Iterator[None]:
    """Calls the work from another thread once no seconds are left, unless the block is left before.

    Args:
        seconds_left: Returns the remaining time.
        work: The function to call.
        name: The thread's name.
        poll_seconds: How often to read the remaining time anew, if it can change while it elapses.
    """
    done = threading.Event()

    def watch() -> None:
        while (seconds := seconds_left()) > 0:
            if done.wait(min(seconds, poll_seconds)):
                return
        work()

    start_thread(watch, name)
    try:
        yield
    finally:
        done.set()


class DaemonPool:
    """Runs functions in daemon threads, at most `size` at a time; the others queue in order.

    Threads start on demand. An abandoned job's thread makes room for another at once, but only a bounded
    number of threads may be lost that way.
    """

    def __init__(
        self,
        size: int,
        name: str,
        *,
        idle_seconds: float | None = IDLE_SECONDS,
        max_lost: int | None = None,
    ) -> None:
        """Creates a pool without threads.

        Args:
            size: The largest number of jobs that run at a time.
            name: The name of its threads.
            idle_seconds: An idle thread ends after this. None: only after `close`.
            max_lost: The number of abandoned jobs still running at which no other is accepted.
        """
        self._size = size
        self._name = name
        self._idle_seconds = idle_seconds
        self._max_lost = max_lost
        self._changed = threading.Condition()  # guards everything below
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._lost = 0
        self._idle = 0
        self._closed = False
        self._running: set[Future[Any]] = set()

    def submit(self, work: Callable[[], T], future: Future[T] | None = None) -> Future[T]:
        """Runs the work in a thread, in a copy of the caller's context.

        Args:
            work: The function to run.
            future: The future for its result or exception, if the work itself refers to it.

        Raises:
            RuntimeError: Too many abandoned jobs are still running.
        """
        future = future or Future()
        job = functools.partial(contextvars.copy_context().run, work)
        with self._changed:
            if self._max_lost is not None and self._lost >= self._max_lost:
                raise RuntimeError(
                    f"{self._lost} abandoned calls are still running on the host; no other call starts "
                    "until some of them have ended"
                )
            self._start_thread_for(len(self._jobs) + 1)
            self._jobs.append((future, job))
            self._changed.notify()
        return future

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs the work in a thread and returns its result, without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(functools.partial(work, *args, **kwargs)))

    def give_up(self, futures: Collection[Future[Any]], error: Exception) -> None:
        """Abandons jobs: queued ones are cancelled, running ones end with `error`, and their threads are lost.

        All at once, so that none of them starts in the place of another.
        """
        given_up = set(futures)
        with self._changed:
            queued = [future for future, _ in self._jobs if future in given_up]
            if queued:
                self._jobs = deque(job for job in self._jobs if job[0] not in given_up)
            running = self._running & given_up
            self._running -= running
            self._threads -= len(running)
            self._lost += len(running)
            for _ in range(min(len(running), len(self._jobs))):
                self._start_thread_for(len(self._jobs))
        for future in queued:
            future.cancel()
        for future in running:
            future.set_exception(error)

    def close(self, *, cancel_queued: bool = False) -> None:
        """Ends the threads after the queued jobs, or after the running ones. Waits for nothing."""
        with self._changed:
            self._closed = True
            cancelled = list(self._jobs) if cancel_queued else []
            if cancelled:
                self._jobs.clear()
            self._changed.notify_all()
        for future, _ in cancelled:
            future.cancel()

    def _start_thread_for(self, jobs: int) -> None:
        """Starts a thread if so many queued jobs can use one more."""
        if jobs > self._idle and self._threads < self._size:
            start_thread(self._work, self._name)
            self._threads += 1

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            future, job = entry
            error: BaseException | None = None
            result = None
            try:
                result = job()
            except BaseException as caught:  # noqa: BLE001 - the future carries it to the waiting thread
                error = caught
            with self._changed:
                if future not in self._running:
                    self._lost -= 1
                    return  # abandoned: another thread has taken this one's place
                self._running.discard(future)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
            del entry, future, job, error, result  # not kept alive while the thread waits

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Waits for a job, marks it as running and returns it; None if the thread should end."""
        with self._changed:
            while True:
                while self._jobs:
                    future, job = self._jobs.popleft()
                    if future.set_running_or_notify_cancel():
                        self._running.add(future)
                        return future, job
                self._idle += 1
                woken = not self._closed and self._changed.wait(self._idle_seconds)
                self._idle -= 1
                if not woken and not self._jobs:
                    self._threads -= 1
                    return None
