"""The choice of a worker for each call, and the calls of a worker that has died. The workers here are coroutines."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from dspy_rlm.jobs.engine import WorkerDiedError
from dspy_rlm.ray.nodes import Node, Place, missing, places
from dspy_rlm.ray.workers import NodeDiedError, WorkerLostError, Workers

POISON = "poison"


class Coroutines:
    """A cluster whose workers are coroutines. A call of `POISON` ends its worker, and all calls in it."""

    def __init__(self, *wanted: Place, starts_fail: bool = False) -> None:
        self.places: Sequence[Place] = wanted
        self.starts_fail = starts_fail
        self.started: list[tuple[Place, bool]] = []
        self.workers: list[Coroutine] = []
        self.most_beside_suspects = 0

    def wanted(self) -> Sequence[Place]:
        return self.places

    async def start(self, place: Place, *, alone: bool) -> Coroutine:
        await asyncio.sleep(0)
        if self.starts_fail:
            raise WorkerDiedError("no room")
        self.started.append((place, alone))
        self.workers.append(Coroutine(self, place, alone=alone))
        return self.workers[-1]


class Coroutine:
    def __init__(self, cluster: Coroutines, place: Place, *, alone: bool) -> None:
        self.cluster, self.place, self.alone = cluster, place, alone
        self.died = asyncio.Event()
        self.error: WorkerDiedError = WorkerDiedError("killed")
        self.in_flight = 0
        self.is_killed = False

    async def call(self, method: str, *args: Any) -> Any:
        self.in_flight += 1
        if self.alone:
            self.cluster.most_beside_suspects = max(
                self.cluster.most_beside_suspects, self.in_flight
            )
        try:
            if args[0] == POISON:
                await asyncio.sleep(0)
                self.died.set()
            elif args[0] == "last call of the node" and self.place.node != "other":
                self.error = NodeDiedError("gone")
                self.cluster.places = [Place("other", 4)]
                self.died.set()
            elif args[0] == "slow" and not self.alone and self.place.node != "other":
                await self.died.wait()
            if self.died.is_set():
                raise self.error
            await asyncio.sleep(0)
            return self.place.node, args[0]
        finally:
            self.in_flight -= 1

    def kill(self) -> None:
        self.is_killed = True
        self.died.set()


def run(cluster: Coroutines, *calls: str, attempts: int = 2) -> list[Any]:
    async def all_calls() -> list[Any]:
        workers = Workers(cluster, attempts=attempts, retry_seconds=0)
        try:
            calling = [workers.call("row", one) for one in calls]
            return await asyncio.gather(*calling, return_exceptions=True)
        finally:
            await workers.close()

    return asyncio.run(all_calls())


class TestPlaces:
    def test_a_node_gets_one_worker_for_eight_cores(self):
        """A worker is bound by its event loop and a node by its processors, so a core is no unit of either."""
        big = Node("big", 16, 64 * 2**30)

        assert [place.node for place in places([big])] == ["big", "big"]
        assert {place.runs for place in places([big])} == {64}

    def test_memory_bounds_the_runs_of_a_node(self):
        """Half of the memory is for sandboxes."""
        assert places([Node("small", 8, 4 * 2**30)]) == [Place("small", 8)]

    def test_a_head_without_processors_gets_none(self):
        """Heads of large clusters have no processors, so that nothing runs beside Ray's own services."""
        assert places([Node("head", 0, 2**30)]) == []

    def test_places_without_a_worker_are_found(self):
        """After a death, and on a node that has joined."""
        wanted = [Place("a", 2), Place("a", 2), Place("b", 2)]

        assert missing(wanted, [Place("a", 2)]) == [Place("a", 2), Place("b", 2)]


class TestCalls:
    def test_calls_are_spread_over_the_nodes(self):
        """The worker with the most room gets the next call."""
        cluster = Coroutines(Place("a", 2), Place("b", 2))

        answers = run(cluster, *(str(number) for number in range(4)))

        assert Counter(node for node, _ in answers) == {"a": 2, "b": 2}

    def test_more_calls_than_room_wait(self):
        """Each ends once."""
        cluster = Coroutines(Place("a", 2))

        answers = run(cluster, *(str(number) for number in range(20)))

        assert [text for _, text in answers] == [str(number) for number in range(20)]
        assert len(cluster.started) == 1

    def test_a_call_that_ends_its_workers_is_given_up_and_its_neighbours_are_not(self):
        """Those beside it are suspects too, so each is tried again in a worker of its own."""
        cluster = Coroutines(Place("a", 4))

        *neighbours, poison = run(cluster, "slow", "slow", "slow", POISON)

        assert [text for _, text in neighbours] == ["slow"] * 3
        assert isinstance(poison, WorkerLostError)
        assert poison.attempts == 2
        assert cluster.most_beside_suspects == 1

    def test_calls_of_a_lost_node_are_not_suspects(self):
        """A node that is taken away is not the fault of a row: its rows go on elsewhere, beside others."""
        cluster = Coroutines(Place("spot", 4))

        answers = run(cluster, "slow", "last call of the node", "last call of the node")

        assert {node for node, _ in answers[:1]} == {"other"}
        assert not any(alone for _, alone in cluster.started)

    def test_all_workers_are_ended_at_the_close(self):
        """Also those for suspects."""
        cluster = Coroutines(Place("a", 4), Place("b", 4))

        run(cluster, "slow", POISON, "1", "2", "3", "4")

        assert all(worker.is_killed for worker in cluster.workers)

    def test_a_cluster_on_which_no_worker_starts_is_an_error(self):
        """Each call says why, instead of waiting without end."""
        (error,) = run(Coroutines(Place("a", 1), starts_fail=True), "1")

        assert isinstance(error, WorkerLostError)
        assert "no room" in str(error)

    def test_a_cancelled_call_gives_its_place_back(self):
        """So does one that has not begun."""

        async def check() -> Any:
            workers = Workers(Coroutines(Place("a", 1)))
            calls = [asyncio.create_task(workers.call("row", "slow")) for _ in range(2)]
            await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            answer = await asyncio.wait_for(workers.call("row", "next"), 30)
            await workers.close()
            return answer

        assert asyncio.run(check()) == ("a", "next")

    def test_new_nodes_get_workers(self):
        """A cluster that grows is used as it is at the next look."""

        async def check() -> set[str]:
            cluster = Coroutines(Place("a", 1))
            workers = Workers(cluster)
            await workers.call("row", "1")
            cluster.places = [Place("a", 1), Place("b", 1)]
            workers.look_again()
            answers = await asyncio.gather(*(workers.call("row", str(n)) for n in range(8)))
            await workers.close()
            return {node for node, _ in answers}

        assert asyncio.run(check()) == {"a", "b"}


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_bound_the_workers_that_a_call_can_end(attempts):
    """With one attempt a call is given up at once."""
    (error,) = run(Coroutines(Place("a", 4)), POISON, attempts=attempts)

    assert isinstance(error, WorkerLostError)
    assert error.attempts == attempts
