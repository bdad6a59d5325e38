"""The quota of a job, as workers reach it: in blocks, through an actor that may be restarted. The actor here is a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import pytest

from dspy_rlm.errors import JobStoppedError
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.limiting.quota import Lease, Rate, UnpricedError
from dspy_rlm.ray.engine import RayEngine, next_credit
from dspy_rlm.ray.quota import MOST_LEASES, QuotaProcess, Standing, WorkerQuota, block_of


class Actor:
    """An object on an event loop in a thread, with the interface of Ray's actors."""

    def __init__(self, process: QuotaProcess) -> None:
        self.process = process
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def __getattr__(self, name: str) -> Any:
        return Method(self, name)

    def close(self) -> None:
        async def finish() -> None:
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

        asyncio.run_coroutine_threadsafe(finish(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Method:
    def __init__(self, actor: Actor, name: str) -> None:
        self.actor, self.name = actor, name

    def remote(self, *args: Any) -> Reference:
        self.actor.calls.append((self.name, args))
        call = getattr(self.actor.process, self.name)(*args)
        return Reference(asyncio.run_coroutine_threadsafe(call, self.actor.loop))


class Reference:
    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def future(self) -> Future[Any]:
        return self._future


@pytest.fixture
def opened() -> Iterator[Any]:
    """Creates actors and the quotas of their workers, and closes them."""
    actors = []

    def open_quota(
        rate: Rate | None = None, max_cost: float | None = None, spent: float | None = 0.0
    ) -> tuple[Actor, WorkerQuota]:
        actor = Actor(QuotaProcess({"m": rate} if rate else {}, max_cost))
        actors.append(actor)
        if spent is not None:
            actor.beat.remote(spent).future().result(60)
        terms = actor.terms.remote().future().result(60)
        return actor, WorkerQuota(actor, "worker", *terms)

    yield open_quota
    for actor in actors:
        actor.close()


def beat(actor: Actor) -> tuple[float, float, bool]:
    return actor.beat.remote(0.0).future().result(60)[:3]


def taken(actor: Actor) -> list[int]:
    return [len(args[0]) for name, args in actor.calls if name == "take"]


class TestBlocks:
    @pytest.mark.parametrize(
        ("rpm", "leases"), [(None, MOST_LEASES), (120, 1), (6_000, 10), (1_000_000, MOST_LEASES)]
    )
    def test_a_block_has_the_requests_of_a_tenth_of_a_second(self, rpm, leases):
        """A server that counts in short intervals would refuse the rest of a larger one."""
        assert block_of(rpm) == leases

    def test_waiting_calls_share_a_request_to_the_actor(self, opened):
        """An actor answers about a thousand requests a second."""
        actor, quota = opened(max_cost=1_000.0)

        leases = [quota.take("m", 10, 0.01) for _ in range(200)]

        assert len({lease.result(60).id for lease in leases}) == 200
        assert max(taken(actor)) <= MOST_LEASES
        assert len(taken(actor)) < 200

    def test_calls_at_a_low_rate_are_granted_one_by_one(self, opened):
        """Each at its time."""
        actor, quota = opened(Rate(rpm=600))

        leases = [quota.take("m", 10, 0.0) for _ in range(3)]

        assert [lease.result(60).model for lease in leases] == ["m"] * 3
        assert taken(actor) == [1, 1, 1]


class TestMoney:
    def test_what_calls_took_is_booked(self, opened):
        """In place of their bounds."""
        actor, quota = opened(max_cost=1.0)
        lease = quota.take("m", 10, 0.5).result(60)
        assert beat(actor)[:2] == (0.0, 0.5)

        quota.settle(lease, tokens=12, cost=0.2)

        assert beat(actor) == (0.2, 0.0, False)

    def test_a_call_without_money_left_stops_the_job(self, opened):
        """The driver sees it at its next beat."""
        actor, quota = opened(max_cost=1.0)
        quota.settle(quota.take("m", 10, 0.9).result(60), tokens=1, cost=0.9)

        with pytest.raises(JobStoppedError, match="max_cost"):
            quota.take("m", 10, 0.5).result(60)

        assert beat(actor)[2]

    def test_a_call_without_cost_and_bound_stops_the_job(self, opened):
        """The reason reaches the worker: a price is missing, not money."""
        _, quota = opened(max_cost=1.0)
        quota.settle(quota.take("m", 10, None).result(60), tokens=None, cost=None)

        with pytest.raises(UnpricedError, match="prices="):
            quota.take("m", 10, 0.1).result(60)

    def test_calls_of_one_block_can_wait_for_the_money_of_each_other(self, opened):
        """The one that was granted is sent, and what it gives back is enough for the next."""
        _, quota = opened(max_cost=1.0)
        waiting = {quota.take("m", 10, 0.6) for _ in range(3)}

        for _ in range(3):
            done, waiting = wait(waiting, 10, FIRST_COMPLETED)
            for lease in done:
                quota.settle(lease.result(), tokens=1, cost=0.01)

        assert not waiting

    def test_a_withdrawn_call_gives_its_money_back(self, opened):
        """It is granted all the same, and then given back."""
        actor, quota = opened(max_cost=1.0, spent=None)
        lease = quota.take("m", 10, 0.9)
        assert lease.cancel()

        beat(actor)

        assert quota.take("m", 10, 0.9).result(60).cost == 0.9

    def test_leases_of_a_dead_worker_count_at_their_bounds(self, opened):
        """Its requests may have been answered."""
        actor, quota = opened(max_cost=1.0)
        quota.take("m", 10, 0.4).result(60)

        actor.forget.remote("worker").future().result(60)

        assert beat(actor) == (0.4, 0.0, False)

    def test_calls_of_a_dead_worker_that_wait_are_refused(self, opened):
        """Otherwise one is granted later, nobody settles it, and the others wait for its money forever."""
        actor, quota = opened(max_cost=10.0)
        lease = quota.take("m", 10, 8.0).result(60)
        waiting = actor.take.remote([("m", 10, 8.0, False)], "dead").future()
        actor.terms.remote().future().result(60)  # so that it is in the queue

        actor.forget.remote("dead").future().result(60)
        quota.settle(lease, tokens=1, cost=1.0)

        assert isinstance(waiting.result(60)[0], JobStoppedError)
        quota.take("m", 10, 8.0).result(60)
        assert beat(actor) == (1.0, 8.0, False)

    def test_a_restarted_actor_remembers_a_worker_that_died_before_its_first_beat(self, opened):
        """A request of the worker may wait there for what was spent."""
        actor, _ = opened(max_cost=10.0, spent=None)
        waiting = actor.take.remote([("m", 10, 8.0, False)], "dead").future()
        forgotten = actor.forget.remote("dead").future()

        beat(actor)

        forgotten.result(60)
        waiting.result(60)
        assert beat(actor)[1] == 0.0

    def test_a_restarted_actor_grants_nothing_before_it_knows_what_was_spent(self, opened):
        """Otherwise the money could be spent twice."""
        actor, quota = opened(max_cost=1.0, spent=None)
        lease = quota.take("m", 10, 0.5)

        actor.beat.remote(0.8).future().result(60)

        with pytest.raises(JobStoppedError):
            lease.result(60)

    def test_a_lease_of_the_actor_before_is_not_booked(self, opened):
        """It counts at its bound in what the driver says, and must not be taken for a lease like it."""
        _, before = opened(max_cost=1.0)
        lease = before.take("m", 10, 0.3).result(60)
        actor, quota = opened(max_cost=1.0, spent=0.3)
        quota.take("m", 10, 0.3).result(60)

        quota.settle(lease, tokens=1, cost=0.2)
        actor.settle.remote([]).future().result(60)

        assert beat(actor)[:2] == (0.3, 0.3)


class TestDeathsOfTheActor:
    @pytest.mark.parametrize("bound", [0.1, 1.0, 4.0])
    def test_no_death_lets_the_job_spend_more(self, opened, bound):
        """What was granted after the last beat is forgotten with the actor; the driver has counted it as spent."""
        engine, paid = RayEngine(), 0.0
        engine._quota = JobQuota(max_cost=10.0)

        async def pay(actor: Actor) -> None:
            """Pays for calls, with two beats while the first ones wait, until none is granted."""
            nonlocal paid
            await engine._beat()
            asked = {asyncio.wrap_future(take(actor)) for _ in range(3)}
            await asyncio.sleep(0.05)
            for _ in range(2):
                await engine._beat()
            while done := (await asyncio.wait(asked, timeout=0.5))[0]:
                for (lease,) in [one.result() for one in done]:
                    if not isinstance(lease, Lease):
                        return
                    actor.settle.remote([(lease, 10, bound, True)]).future().result(60)
                    paid += bound
                asked = asked - done | {asyncio.wrap_future(take(actor))}

        def take(actor: Actor) -> Future[Any]:
            return actor.take.remote([("m", 10, bound, False)], "worker").future()

        async def job() -> None:
            for _ in range(3):
                engine._quota_actor, _ = opened(max_cost=10.0, spent=None)
                await pay(engine._quota_actor)
                engine._quota_actor.forget.remote("worker").future().result(60)  # ends requests

        asyncio.run(job())

        assert 0.0 < paid <= engine._most_spent <= 10.0

    def test_a_job_without_deaths_uses_all_of_its_money(self, opened):
        """What waits gets credit at the next beat; the end is the cap, not the credit."""
        actor, quota = opened(max_cost=10.0, spent=None)
        engine = RayEngine()
        engine._quota, engine._quota_actor = JobQuota(max_cost=10.0), actor

        async def job() -> None:
            for _ in range(5):
                lease = quota.take("m", 10, 2.0)
                while not lease.done():
                    await engine._beat()
                    await asyncio.sleep(0.01)
                quota.settle(lease.result(), tokens=1, cost=2.0)
            refused = quota.take("m", 10, 2.0)
            while not refused.done():
                await engine._beat()
                await asyncio.sleep(0.01)
            with pytest.raises(JobStoppedError, match="max_cost"):
                refused.result()
            await engine._beat()

        asyncio.run(job())

        assert engine._quota.spent == pytest.approx(10.0)
        assert engine._quota.is_closed

    def test_an_older_credit_counts_until_the_actor_has_the_new_one(self, opened):
        """It may have granted against it when it dies."""
        engine = RayEngine()
        engine._quota, engine._credit, engine._most_spent = JobQuota(max_cost=10.0), 2.0, 6.0
        engine._quota_actor, _ = opened(max_cost=10.0, spent=None)

        asyncio.run(engine._beat())

        assert engine._quota.spent == 6.0

    @pytest.mark.parametrize(
        ("standing", "max_cost", "credit"),
        [
            (Standing(1.0, 2.0, False, 0.0), None, 3.0),
            (Standing(1.0, 2.0, False, 0.0), 103.0, 5.0),
            (Standing(1.0, 2.0, False, 7.0), 103.0, 12.0),
            (Standing(1.0, 2.0, False, 99.0), 103.0, 103.0),
            (Standing(120.0, 0.0, False, 0.0), 103.0, 103.0),
        ],
    )
    def test_the_credit_is_a_share_of_what_is_left_beside_what_waits(
        self, standing, max_cost, credit
    ):
        """So a death of the actor loses little, and no call waits for long."""
        assert next_credit(standing, max_cost) == credit
