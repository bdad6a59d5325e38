"""Workers as Ray actors: one call of a method for one run, no restarts and no retries by Ray itself.

Ray would repeat a task whose actor has died without end; what is repeated here, `workers.py` decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from dspy_rlm.ray.nodes import Node, Place, places
from dspy_rlm.ray.worker import WorkerProcess
from dspy_rlm.ray.workers import WorkerDiedError

logger = logging.getLogger(__name__)

# A worker is mostly waiting for LMs and for its sandboxes, which Ray does not see. Less than one, so that a cluster whose
# processors are all taken by actors can still read and write data.
USUAL_CPUS = 0.25

# Seconds for the request that cancels a run, after which the worker is left to itself.
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
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            workers_per_node: The workers on each node; None for one per eight cores.
            runs_per_worker: The runs in each at once; None for what the node has room for.
            num_cpus: The processors that Ray counts for a worker.
            options: Further options of `ray.remote` for the actors, such as `resources` or `runtime_env`.
            arguments: What each worker is created with; see `WorkerProcess`.
        """
        self._workers_per_node = workers_per_node
        self._runs_per_worker = runs_per_worker
        self._num_cpus = num_cpus
        self._options = dict(options or {})
        self._arguments = dict(arguments or {})

    def wanted(self) -> list[Place]:
        """See `WorkerSource`."""
        nodes = [
            Node(one["NodeID"], one["Resources"].get("CPU", 0), one["Resources"].get("memory", 0))
            for one in the_ray().nodes()
            if one["Alive"]
        ]
        return places(nodes, self._workers_per_node, self._runs_per_worker)

    async def start(self, place: Place, *, alone: bool) -> Actor:
        """See `WorkerSource`."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": 0 if alone else self._num_cpus,  # one more than planned: it must not wait for room
            "max_concurrency": place.runs + _INTERNAL,
            "max_restarts": 0,
            "max_task_retries": 0,
            # Soft: the node may be gone when the actor starts.
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=True),
            **self._options,
        }
        actor = Actor(the_ray().remote(**options)(WorkerProcess).remote(**self._arguments))
        try:
            actor.node = await actor.call("ready")
        except BaseException:
            actor.kill()
            raise
        return actor


class Actor:
    """One actor; see `Worker`."""

    def __init__(self, handle: Any) -> None:
        """Wraps an actor that may not have started."""
        self._handle = handle
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
            raise WorkerDiedError(_first_line(error), with_node=self._node_is_gone()) from error

    def kill(self) -> None:
        """See `Worker`."""
        the_ray().kill(self._handle)

    def _node_is_gone(self) -> bool:
        return bool(self.node) and not any(
            one["Alive"] and one["NodeID"] == self.node for one in the_ray().nodes()
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
