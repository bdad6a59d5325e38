"""A pool of threads for host tools: a bounded number, started on demand, never joined.

Daemon threads, because a tool that never returns must not keep the host process alive. An abandoned thread
is replaced at once, but only a bounded number may be lost that way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any

from sandbox_runtime.host_costs import MAX_LOST_THREADS

# An idle thread ends after this.
IDLE_SECONDS = 2.0

Job = Callable[[Future[Any]], Any]


class Workers:
    """Runs functions, at most `size` at a time; the others queue in order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()  # guards everything below
        self._jobs: deque[tuple[Future[Any], Job]] = deque()
        self._threads = 0
        self._lost = 0
        self._idle = 0
        self._closed = False
        self._running: set[Future[Any]] = set()

    def submit(self, job: Job) -> Future[Any]:
        """Runs `job` in a thread. The future, which is also passed to the job, gets its result or exception.

        Raises:
            RuntimeError: Too many abandoned jobs are still running.
        """
        future: Future[Any] = Future()
        with self._changed:
            if self._lost >= MAX_LOST_THREADS:
                raise RuntimeError(
                    f"{self._lost} abandoned calls still run on the host; no other starts until some of "
                    "them have ended"
                )
            self._jobs.append((future, job))
            self._hire()
            self._changed.notify()
        return future

    def give_up(self, futures: Collection[Future[Any]], error: Exception) -> None:
        """Abandons jobs with `error`: queued ones never start, running ones are lost.

        All at once, so that none of them starts in the place of another.
        """
        given_up = set(futures)
        with self._changed:
            waiting = [future for future, _ in self._jobs if future in given_up]
            if waiting:
                self._jobs = deque(job for job in self._jobs if job[0] not in given_up)
            running = self._running & given_up
            self._running -= running
            self._threads -= len(running)
            self._lost += len(running)
            self._hire()
        for future in waiting:
            future.cancel()
        for future in running:
            future.set_exception(error)

    def close(self) -> None:
        """Drops queued jobs; threads end when their jobs are done."""
        with self._changed:
            self._closed = True
            left, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for future, _ in left:
            future.cancel()

    def _hire(self) -> None:
        """Starts a thread if there is work for one more."""
        if len(self._jobs) > self._idle and self._threads < self._size:
            self._threads += 1
            threading.Thread(target=self._work, name="host-tool", daemon=True).start()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            future, job = task
            error: BaseException | None = None
            result = None
            try:
                result = job(future)
            except BaseException as caught:  # noqa: BLE001 - the future carries it to the waiter
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
            del future, job, task, error, result  # not kept alive while waiting for the next job

    def _next(self) -> tuple[Future[Any], Job] | None:
        with self._changed:
            while True:
                while self._jobs:
                    future, job = self._jobs.popleft()
                    if future.set_running_or_notify_cancel():
                        self._running.add(future)
                        return future, job
                self._idle += 1
                came = not self._closed and self._changed.wait(IDLE_SECONDS)
                self._idle -= 1
                if not came and not self._jobs:
                    self._threads -= 1
                    return None
