"""Workers as Ray actors: one call of a method for one run, no restarts and no retries by Ray itself.

Ray would repeat a task whose actor has died without end; what is repeated here, `workers.py` decides.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspy_rlm.jobs.engine import WorkerDiedError
from dspy_rlm.ray.nodes import Node, Place, places
from dspy_rlm.ray.results import value_of
from dspy_rlm.ray.worker import WorkerProcess
from dspy_rlm.ray.workers import NodeDiedError

# A worker is mostly waiting for LMs and for its sandboxes, which Ray does not see. Less than one, so that a cluster whose
# processors are all taken by actors can still read and write data.
USUAL_CPUS = 0.25

# Calls beside the runs, such as the one that gets a worker ready.
_INTERNAL = 1


def the_ray() -> Any:
    """Returns the module `ray`.

    Raises:
        ModuleNotFoundError: It is not installed: `pip install "dspy-rlm[ray]"`.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'A cluster needs Ray, here and on every node. Install it: pip install "dspy-rlm[ray]".',
            name=error.name,
        ) from error
    return ray


def connect(address: str | None) -> None:
    """Connects this process to a cluster, unless it is connected.

    Args:
        address: The address of the cluster; None for that of `RAY_ADDRESS`, else for one on this machine.
    """
    ray = the_ray()
    if not ray.is_initialized():
        ray.init(**({} if address is None else {"address": address}))


class Actors:
    """Starts workers on the nodes of the cluster to which this process is connected."""

    def __init__(
        self,
        *,
        workers_per_node: int | None = None,
        runs_per_worker: int | None = None,
        num_cpus: float = USUAL_CPUS,
        options: Mapping[str, Any] | None = None,
        job: Sequence[Any] = (),
        on_death: Callable[[str], None] = lambda worker: None,
    ) -> None:
        """Starts nothing yet.

        Args:
            workers_per_node: The workers on each node; None for one per eight cores.
            runs_per_worker: The runs in each at once; None for what the node has room for.
            num_cpus: The processors that Ray counts for a worker.
            options: Further options of `ray.remote` for the actors, such as `resources` or `runtime_env`.
            job: What each worker needs for the rows of a job; see `WorkerProcess.ready`.
            on_death: Called with the name of a worker that has died.
        """
        self._workers_per_node = workers_per_node
        self._runs_per_worker = runs_per_worker
        self._num_cpus = num_cpus
        self._options = dict(options or {})
        self._job = list(job)
        self._on_death = on_death

    def wanted(self) -> list[Place]:
        """See `WorkerSource`."""
        nodes = [
            Node(one["NodeID"], one["Resources"].get("CPU", 0), one["Resources"].get("memory", 0))
            for one in the_ray().nodes()
            if one["Alive"]
        ]
        return places(nodes, self._workers_per_node, self._runs_per_worker)

    async def start(self, place: Place, *, alone: bool) -> Actor:
        """See `WorkerSource`. Raises the error for which a worker cannot run the job."""
        options = {
            "num_cpus": 0
            if alone
            else self._num_cpus,  # one more than planned: it must not wait for room
            "max_concurrency": place.runs + _INTERNAL,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": _near(place.node),
            **self._options,
        }
        name = uuid.uuid4().hex
        handle = the_ray().remote(**options)(WorkerProcess).remote(name)
        actor = Actor(handle, name, self._on_death)
        try:
            actor.node, problem = await actor.call("ready", self._job)
            error = value_of(problem).error if problem else None
            if error is not None:
                raise error
        except BaseException:
            actor.kill()
            raise
        return actor


class Actor:
    """One actor; see `Worker`."""

    def __init__(self, handle: Any, name: str, on_death: Callable[[str], None]) -> None:
        """Wraps an actor that may not have started."""
        self._handle = handle
        self._name, self._on_death = name, on_death
        self.node = ""

    async def call(self, method: str, *args: Any) -> Any:
        """See `Worker`. A cancelled call is cancelled in the actor."""
        ray = the_ray()
        errors = ray.exceptions
        reference = getattr(self._handle, method).remote(*args)
        try:
            return await reference
        except asyncio.CancelledError:
            ray.cancel(reference)
            raise
        except (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
        ) as error:
            self._on_death(self._name)
            kind = NodeDiedError if self._node_is_gone() else WorkerDiedError
            raise kind(_first_line(error)) from error

    def kill(self) -> None:
        """See `Worker`."""
        the_ray().kill(self._handle)

    def _node_is_gone(self) -> bool:
        return bool(self.node) and not any(
            one["Alive"] and one["NodeID"] == self.node for one in the_ray().nodes()
        )


def _near(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Soft: the node may be gone when the actor starts.
    return NodeAffinitySchedulingStrategy(node, soft=True)


def on_this_node(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options of an actor, with the node of this process as its place."""
    node = the_ray().get_runtime_context().get_node_id()
    return {**options, "scheduling_strategy": _near(node)}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
