"""Calls of workers that may die: which worker gets a call, and what becomes of the calls in a worker that has died.

A call that ends its worker, such as one that takes all memory, also ends those beside it. So each of them is tried again in
a worker of its own; one that ends that too is given up. If a whole node has died, none of its calls is the cause.
Knows no Ray: `actors.py` starts the workers. Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from dspy_rlm.errors import RLMError
from dspy_rlm.jobs.engine import WorkerDiedError
from dspy_rlm.ray.nodes import Place, missing

logger = logging.getLogger(__name__)

# Nodes come and go; it is looked at the list of them at most so often.
LOOK_SECONDS = 10.0

# Workers for calls that are tried alone, at the same time.
MOST_ALONE = 8

# A call that has lost so many nodes is given up.
MOST_LOST_NODES = 20

# Workers that died before they were ready, one after the other, while none was there.
MOST_FAILED_STARTS = 5

RETRY_SECONDS = 1.0

# Without a worker after so long, a warning says why that may be.
PATIENCE_SECONDS = 60.0


class NodeDiedError(WorkerDiedError):
    """The whole node of the worker has died or was taken away."""


class WorkerLostError(RLMError, WorkerDiedError):
    """A call has no result: each worker that it was sent to has died, the last one with this call alone.

    Attributes:
        attempts: The number of workers.
    """

    def __init__(self, message: str, *, attempts: int = 0) -> None:
        super().__init__(message)
        self.attempts = attempts


class Worker(Protocol):
    """A process that performs calls, several at once."""

    async def call(self, method: str, *args: Any) -> Any:
        """Returns the result of a method. Raises `WorkerDiedError`, or the error of the method."""

    def kill(self) -> None:
        """Ends the process."""


class WorkerSource(Protocol):
    """The cluster, as far as it is needed here."""

    def wanted(self) -> Sequence[Place]:
        """Returns the places of workers on the nodes that are alive."""

    async def start(self, place: Place, *, alone: bool) -> Worker:
        """Returns a worker that is ready; `alone` if it gets one call at a time. Raises `WorkerDiedError`."""


class _Running:
    def __init__(self, worker: Worker, place: Place) -> None:
        self.worker = worker
        self.place = place
        self.in_flight = 0


class Workers:
    """The workers of a job. Starts none before the first call."""

    def __init__(
        self, source: WorkerSource, *, attempts: int = 2, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        """Creates the pool.

        Args:
            source: The cluster.
            attempts: A call is given up after so many workers have died, in the last of which it was alone.
            retry_seconds: The pause before another start after a failed one; it grows with each.
        """
        self._source = source
        self._retry_seconds = retry_seconds
        self._attempts = attempts
        self._running: list[_Running] = []
        self._starting: dict[asyncio.Task[None], Place] = {}
        self._waiting: deque[asyncio.Future[_Running]] = deque()
        self._looked_at = -math.inf
        self._wanted: Sequence[Place] = ()
        self._failed_starts = 0
        self._alone = asyncio.Semaphore(MOST_ALONE)
        self._idle_alone: list[Worker] = []
        self._suspects = 0
        self._next_place = 0
        self._closed = False

    @property
    def capacity(self) -> int:
        """The calls that can be in flight at once, on the nodes that were there at the last look."""
        self._look()
        return sum(place.runs for place in self._wanted)

    async def call(self, method: str, *args: Any) -> Any:
        """Returns the result of a method of a worker.

        Raises:
            WorkerLostError: Its workers have died.
        """
        deaths = 0
        while True:
            try:
                return await self.call_once(method, *args, alone=deaths > 0)
            except WorkerDiedError as death:
                deaths += 1
                if deaths >= self._attempts:
                    raise WorkerLostError(
                        f"No result: {deaths} workers have died during this call, the last one with no other call in it. {death}",
                        attempts=deaths,
                    ) from death

    async def call_once(self, method: str, *args: Any, alone: bool = False) -> Any:
        """Returns the result of a method of a worker; with `alone`, of one that has no other call.

        Raises:
            WorkerDiedError: The worker has died. A call whose node has died is made again instead.
        """
        for _ in range(MOST_LOST_NODES):
            try:
                if alone:
                    return await self._call_alone(method, *args)
                return await self._call_beside_others(method, *args)
            except NodeDiedError as death:
                error = death
        raise error

    def look_again(self) -> None:
        """Looks at the nodes at the next call, however long ago it was done."""
        self._looked_at = -math.inf

    async def started(self) -> None:
        """Waits for the first worker.

        Raises:
            WorkerLostError: None could be started.
            Exception: The job cannot run in it.
        """
        one = await self._taken()
        one.in_flight -= 1
        self._hand_out()

    async def close(self) -> None:
        """Ends all workers. Idempotent."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for waiting in self._waiting:
            waiting.cancel()
        for worker in [*(one.worker for one in self._running), *self._idle_alone]:
            worker.kill()
        self._running, self._idle_alone = [], []

    # ---- Among others ----

    async def _call_beside_others(self, method: str, *args: Any) -> Any:
        one = await self._taken()
        try:
            return await one.worker.call(method, *args)
        except WorkerDiedError:
            if one in self._running:
                self._running.remove(one)
                one.worker.kill()
                self.look_again()
            raise
        finally:
            one.in_flight -= 1
            self._hand_out()

    async def _taken(self) -> _Running:
        """Returns a worker with room for one more call, which is counted."""
        waiting: asyncio.Future[_Running] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._hand_out()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                waiting.result().in_flight -= 1
                self._hand_out()
            raise

    def _hand_out(self) -> None:
        self._look()
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            free = [one for one in self._running if one.in_flight < one.place.runs]
            if not free:
                return
            one = min(free, key=lambda one: one.in_flight / one.place.runs)
            one.in_flight += 1
            self._waiting.popleft().set_result(one)

    def _look(self) -> None:
        """Starts workers on nodes that lack some, at most every few seconds."""
        now = time.monotonic()
        if self._closed or now < self._looked_at + LOOK_SECONDS:
            return
        self._looked_at = now
        self._wanted = self._source.wanted()
        places = [*(one.place for one in self._running), *self._starting.values()]
        for place in missing(self._wanted, places):
            task = asyncio.create_task(self._start(place))
            self._starting[task] = place
            task.add_done_callback(lambda task: self._starting.pop(task, None))

    async def _start(self, place: Place) -> None:
        start = asyncio.ensure_future(self._source.start(place, alone=False))
        try:
            done, _ = await asyncio.wait([start], timeout=PATIENCE_SECONDS)
            if not done and not self._running:
                logger.warning(
                    "No worker has started after %d s. The cluster may have no room: each worker asks for the processors "
                    "that `num_cpus` says. `ray status` shows what is free.",
                    PATIENCE_SECONDS,
                )
            worker = await start
        except asyncio.CancelledError:
            if not start.cancel() and not start.cancelled() and start.exception() is None:
                start.result().kill()
            raise
        except WorkerDiedError as death:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS and not self._running:
                self._fail(WorkerLostError(f"No worker could be started. {death}"))
                return
            self.look_again()
            later = self._failed_starts * self._retry_seconds
            asyncio.get_running_loop().call_later(later, self._hand_out)
            return
        except Exception as error:  # noqa: BLE001 - raised in the calls that wait
            self._fail(error)
            return
        self._failed_starts = 0
        self._running.append(_Running(worker, place))
        self._hand_out()

    def _fail(self, error: Exception) -> None:
        """Raises an error in each call that waits, unless there are other workers."""
        if self._running:
            return
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if not one.done():
                one.set_exception(error)

    # ---- Alone ----

    async def _call_alone(self, method: str, *args: Any) -> Any:
        self._suspects += 1
        try:
            async with self._alone:
                worker = self._idle_alone.pop() if self._idle_alone else await self._start_alone()
                try:
                    result = await worker.call(method, *args)
                except BaseException:
                    worker.kill()
                    raise
                self._idle_alone.append(worker)
                return result
        finally:
            self._suspects -= 1
            if not self._suspects:
                for idle in self._idle_alone:
                    idle.kill()
                self._idle_alone = []

    async def _start_alone(self) -> Worker:
        """Returns a worker for one call, on the nodes by turns."""
        while True:
            self._look()
            if self._wanted:
                self._next_place += 1
                place = self._wanted[self._next_place % len(self._wanted)]
                return await self._source.start(Place(place.node, 1), alone=True)
            await asyncio.sleep(1)
            self.look_again()
