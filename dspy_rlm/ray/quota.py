"""The quota of a job on a cluster: one actor has it, and workers take leases from it in blocks.

An actor answers about a thousand requests a second. So a worker that has many calls waiting takes up to twenty leases with one
request, but never more than those of a tenth of a second, as a server that counts in short intervals would refuse the rest.

The actor is restarted if it dies. Until the driver has said what the job had spent, it grants nothing. With `max_cost` it grants only
what fits into a credit of the driver's, who counts all of that as spent if the actor dies: what it granted last is forgotten with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any, NamedTuple

from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.limiting.quota import Lease, Rate

MOST_LEASES = 20
BLOCK_SECONDS = 0.1

# Requests for blocks of one model that are under way at the same time.
_BLOCKS_AT_ONCE = 4

# Model, tokens, cost, first.
Wish = tuple[str, int, float | None, bool]
# Lease, tokens, cost, sent.
Settlement = tuple[Lease, int | None, float | None, bool]


class Standing(NamedTuple):
    """The money of the job, as the actor has it."""

    spent: float
    """US dollars that the job has spent."""

    reserved: float
    """The bound of the calls in flight."""

    is_closed: bool
    """True once a call was refused."""

    wanted: float
    """The bound of the calls that wait for credit."""


class QuotaProcess:
    """The class of the actor."""

    def __init__(self, rates: Mapping[str, Rate], max_cost: float | None) -> None:
        """Grants nothing before the first `beat`."""
        self._rates, self._max_cost = dict(rates), max_cost
        self._quota: JobQuota | None = None
        self._seeded = asyncio.Event()
        self._granted: set[Lease] = set()  # not those of an actor before this one

    async def beat(self, spent: float, credit: float = math.inf) -> Standing:
        """Synchronizes with the driver.

        Args:
            spent: What the job may have spent, as the driver knows it: it counts after a start only.
            credit: What may be spent or reserved until the next beat. Ray may repeat a beat in a new actor, so `spent` must
                not be less.

        Returns:
            Where the job stands.
        """
        if self._quota is None:
            # A lease of the actor before must not be taken for one of this actor.
            first_id = 1 + secrets.randbits(60)
            self._quota = JobQuota(self._rates, self._max_cost, spent, first_id=first_id)
        self._quota.allow(credit)
        self._seeded.set()
        quota = self._quota
        return Standing(quota.spent, quota.reserved, quota.is_closed, quota.wanted)

    async def terms(self) -> tuple[bool, dict[str, int]]:
        """Returns whether calls must state their cost, and the leases of a block by model."""
        return self._max_cost is not None, {
            model: block_of(rate.rpm) for model, rate in self._rates.items()
        }

    async def take(self, wishes: list[Wish], holder: str) -> list[Lease | BaseException | None]:
        """Returns what was granted once at least one wish was, and a little later.

        Args:
            wishes: The leases that a worker wants.
            holder: The name of the worker.

        Returns:
            For each wish a lease, the error with which it was refused, or None if it was not granted in time: one may wait for
            the money of another that is to be returned here.
        """
        await self._seeded.wait()
        quota = self._quota
        assert quota is not None  # noqa: S101 - it is there once the event is set
        wanted = [
            quota.take(model, tokens, cost, first=first, holder=holder)
            for model, tokens, cost, first in wishes
        ]
        waiting = [asyncio.shield(asyncio.wrap_future(future)) for future in wanted]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(waiting, timeout=BLOCK_SECONDS)
        for one in waiting:
            if one.done() and not one.cancelled():
                one.exception()  # else asyncio logs it: it is in the answers
        answers = [_answer(future) for future in wanted]
        self._granted.update(one for one in answers if isinstance(one, Lease))
        return answers

    async def settle(self, settlements: list[Settlement]) -> None:
        """Books what calls took."""
        for lease, tokens, cost, sent in settlements:
            if self._quota is not None and lease in self._granted:
                self._granted.discard(lease)
                self._quota.settle(lease, tokens=tokens, cost=cost, sent=sent)

    async def forget(self, holder: str) -> None:
        """Books the leases of a worker that has died at their bounds, and refuses its calls that wait."""
        await self._seeded.wait()
        assert self._quota is not None  # noqa: S101 - it is there once the event is set
        self._quota.forget(holder)
        self._granted -= {lease for lease in self._granted if lease.holder == holder}


def _answer(future: Future[Lease]) -> Lease | BaseException | None:
    """Returns what has become of a wish; one without an answer is withdrawn."""
    if future.cancel():
        return None
    error = future.exception()
    return future.result() if error is None else error


def block_of(requests_per_minute: float | None) -> int:
    """Returns the leases that a worker takes with one request at most."""
    if requests_per_minute is None:
        return MOST_LEASES
    return max(1, min(MOST_LEASES, int(requests_per_minute / 60 * BLOCK_SECONDS)))


class WorkerQuota:
    """The quota in a worker: forwards to the actor. Implements `limiting.quota.Quota`; thread-safe."""

    def __init__(
        self, actor: Any, holder: str, limits_cost: bool, blocks: Mapping[str, int]
    ) -> None:
        """Sends nothing yet."""
        self.limits_cost = limits_cost
        self._actor, self._holder, self._blocks = actor, holder, dict(blocks)
        self._lock = threading.Lock()  # guards everything below
        self._waiting: dict[str, deque[tuple[Wish, Future[Lease]]]] = {}
        self._under_way: dict[str, int] = {}
        self._settlements: list[Settlement] = []
        self._is_settling = False

    def take(
        self, model: str, tokens: int, cost: float | None, *, first: bool = False, requests: int = 1
    ) -> Future[Lease]:
        """See `Quota.take`."""
        future: Future[Lease] = Future()
        with self._lock:
            self._waiting.setdefault(model, deque()).append(((model, tokens, cost, first), future))
        self._send(model)
        return future

    def settle(
        self, lease: Lease, *, tokens: int | None, cost: float | None, sent: bool = True
    ) -> None:
        """See `Quota.settle`."""
        with self._lock:
            self._settlements.append((lease, tokens, cost, sent))
        self._send_settlements()

    def _send(self, model: str) -> None:
        """Requests leases for what waits, while not too many requests are under way."""
        size = self._blocks.get(model, MOST_LEASES)
        while True:
            with self._lock:
                queue = self._waiting.get(model)
                under_way = self._under_way.get(model, 0)
                # Leases one by one wait in the actor's queue, in the order of all workers.
                if not queue or (size > 1 and under_way >= _BLOCKS_AT_ONCE):
                    return
                block = [queue.popleft() for _ in range(min(size, len(queue)))]
                block = [(wish, future) for wish, future in block if not future.cancelled()]
                if not block:
                    continue
                self._under_way[model] = under_way + 1
            wishes = [wish for wish, _ in block]
            answer = self._actor.take.remote(wishes, self._holder).future()
            answer.add_done_callback(lambda done, block=block: self._arrived(model, block, done))

    def _arrived(
        self, model: str, block: list[tuple[Wish, Future[Lease]]], done: Future[Any]
    ) -> None:
        with self._lock:
            self._under_way[model] -= 1
        error = done.exception()
        leases = [error] * len(block) if error is not None else done.result()
        rest = [one for one, lease in zip(block, leases, strict=True) if lease is None]
        with self._lock:
            self._waiting.setdefault(model, deque()).extendleft(reversed(rest))
        for (_, future), lease in zip(block, leases, strict=True):
            if lease is None:
                continue
            if isinstance(lease, Lease):
                try:
                    future.set_result(lease)
                except InvalidStateError:  # withdrawn meanwhile
                    self.settle(lease, tokens=None, cost=None, sent=False)
                continue
            with contextlib.suppress(InvalidStateError):
                future.set_exception(lease)
        self._send(model)

    def _send_settlements(self) -> None:
        with self._lock:
            if self._is_settling or not self._settlements:
                return
            self._is_settling = True
            settlements, self._settlements = self._settlements, []
        self._actor.settle.remote(settlements).future().add_done_callback(self._settled)

    def _settled(self, done: Future[Any]) -> None:
        with self._lock:
            self._is_settling = False
        self._send_settlements()
