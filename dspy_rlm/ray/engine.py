"""The engine of `dspy_rlm.batch(engine="ray")`: rows as single calls of actors, a few actors on each node.

The driver owns the rows, the window and the journal; see `jobs/driver.py`. If it dies, so do its actors and their sandboxes, and the
next driver goes on from the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from dspy_rlm.jobs.engine import Outcome, Program, Row, Verdict
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.ray.actors import USUAL_CPUS, Actors, connect, on_this_node, the_ray
from dspy_rlm.ray.quota import QuotaProcess, Standing
from dspy_rlm.ray.worker import share, unshare
from dspy_rlm.ray.workers import Workers

logger = logging.getLogger(__name__)

# Seconds between two looks at the quota's actor.
BEAT_SECONDS = 0.5

# The same while calls wait for credit.
SHORT_BEAT_SECONDS = 0.05

# The part of the money left that the actor may spend between two looks, beside what waits for it. It is lost if the actor dies.
CREDIT_SHARE = 0.02

# Without an answer for so long, the actor is being restarted.
BEAT_TIMEOUT_SECONDS = 30.0


class RayEngine:
    """Runs rows on a cluster; implements `jobs.engine.Engine`.

    A row that is to be tried alone gets a worker of its own, while others go on; one whose node has died goes on elsewhere.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers_per_node: int | None = None,
        runs_per_worker: int | None = None,
        num_cpus: float = USUAL_CPUS,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts nothing yet. The arguments are those of `distributed`."""
        self._address = address
        self._settings: dict[str, Any] = {
            "workers_per_node": workers_per_node,
            "runs_per_worker": runs_per_worker,
            "num_cpus": num_cpus,
            "options": options,
        }
        self._workers: Workers | None = None
        self._quota = JobQuota()
        self._quota_actor: Any = None
        self._program: Program | None = None
        self._beating: asyncio.Task[None] | None = None
        self._beat_under_way: asyncio.Future[Standing] | None = None
        self._credit = 0.0  # what the actor may spend or reserve
        self._most_spent = 0.0  # what the job has spent if the actor dies now

    @property
    def concurrency(self) -> int:
        """The rows that the nodes have room for at present."""
        return max(1, self._workers.capacity) if self._workers is not None else 1

    async def start(self, program: Program, quota: JobQuota) -> None:
        """See `jobs.engine.Engine`."""
        # In a thread: in the main one Ray would replace the handler of SIGTERM, with which the job stops.
        await asyncio.to_thread(connect, self._address)
        ray = the_ray()
        self._quota = quota
        if quota.rates or quota.limits_cost:
            options = on_this_node({"num_cpus": 0, "max_concurrency": 10_000, "max_restarts": -1})
            remote = ray.remote(**options, max_task_retries=-1)(QuotaProcess)
            self._quota_actor = remote.remote(quota.rates, quota.max_cost)
            self._credit = self._most_spent = quota.spent
            await self._beat()
            self._beating = asyncio.create_task(self._keep_beating())
        self._program = program
        await asyncio.to_thread(share, program)
        job = [ray.put(program.packed()), self._quota_actor]
        actors = Actors(**self._settings, job=job, on_death=self._forget)
        self._workers = Workers(actors)
        await self._workers.started()

    async def run(self, row: Row, *, alone: bool = False) -> Outcome:
        """See `jobs.engine.Engine`."""
        if self._workers is None:
            raise RuntimeError("The engine has not been started.")
        outcome: Outcome = await self._workers.call_once("row", row, alone=alone)
        if self._quota_actor is None and outcome.amount is not None:
            self._quota.book(outcome.amount)
        if outcome.verdict is Verdict.UNFINISHED:
            self._quota.close()
        return outcome

    async def close(self) -> None:
        """See `jobs.engine.Engine`."""
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating
            with contextlib.suppress(the_ray().exceptions.RayError, TimeoutError):
                self._beat_under_way = None  # its answer may be older than the last settlement
                await self._beat()
            self._beating = None
        if self._workers is not None:
            await self._workers.close()
            self._workers = None
        if self._program is not None:
            await asyncio.to_thread(unshare, self._program)
        if self._quota_actor is not None:
            the_ray().kill(self._quota_actor)
            self._quota_actor = None

    # ---- The quota ----

    def _forget(self, worker: str) -> None:
        if self._quota_actor is not None:
            self._quota_actor.forget.remote(worker)

    async def _keep_beating(self) -> None:
        wait_for = BEAT_SECONDS
        while True:
            await asyncio.sleep(wait_for)
            wait_for = BEAT_SECONDS
            try:
                if await self._beat():
                    wait_for = SHORT_BEAT_SECONDS
            except (the_ray().exceptions.RayError, TimeoutError) as error:
                logger.warning("The quota of the job is not reached: %s", error)

    async def _beat(self) -> bool:
        """Books here what was spent there, and sets the next credit; returns whether calls wait for it.

        A new actor starts with what the last one may have spent. One beat is under way at a time: an older one that Ray repeats
        would start a new actor with too little.
        """
        if self._beat_under_way is None:
            self._most_spent = max(self._most_spent, self._credit)
            reference = self._quota_actor.beat.remote(self._most_spent, self._credit)
            self._beat_under_way = asyncio.wrap_future(reference.future())
        done, _ = await asyncio.wait([self._beat_under_way], timeout=BEAT_TIMEOUT_SECONDS)
        if not done:
            raise TimeoutError(f"no answer for {BEAT_TIMEOUT_SECONDS:.0f} s")
        answer, self._beat_under_way = self._beat_under_way, None
        standing = answer.result()
        used = standing.spent + standing.reserved
        self._most_spent = max(used, self._credit)
        if standing.spent > self._quota.spent:
            self._quota.book(standing.spent - self._quota.spent)
        if standing.is_closed:
            self._quota.close()
        before, self._credit = self._credit, next_credit(standing, self._quota.max_cost)
        return standing.wanted > 0 and self._credit > before


def next_credit(standing: Standing, max_cost: float | None) -> float:
    """Returns what the actor may spend or reserve from now on."""
    used = standing.spent + standing.reserved
    if max_cost is None:
        return used
    return min(used + standing.wanted + CREDIT_SHARE * max(max_cost - used, 0.0), max_cost)
