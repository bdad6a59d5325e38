"""A cluster of three nodes on this machine, and the processes that can be killed in it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from typing import Any

import psutil

# A variable of the environment of every process that belongs to the trial.
MARK = "DSPY_RLM_SCALE_TRIAL"

_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


class Nodes:
    """A head, which stays, and two nodes that may die."""

    def __init__(self, mark: str) -> None:
        """Starts the cluster. Its processes inherit the mark."""
        from ray.cluster_utils import Cluster

        os.environ[MARK] = mark
        self._mark = mark
        head = {**_NODE, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._others = [self._cluster.add_node(**_NODE) for _ in range(2)]
        self.address: str = self._cluster.address

    def kill_node(self) -> str:
        """Kills the raylet of a node, and adds another node."""
        node = self._others.pop(random.randrange(len(self._others)))
        raylet = node.all_processes["raylet"][0].process.pid
        os.kill(raylet, signal.SIGKILL)
        self._others.append(self._cluster.add_node(**_NODE))
        return f"raylet {raylet}"

    def kill_actor(self) -> str:
        """Kills the process of a worker."""
        actors = [one for one in self.processes() if _is_worker(one)]
        if not actors:
            return "no actor"
        actor = random.choice(actors)
        with contextlib.suppress(psutil.NoSuchProcess):
            actor.kill()
        return f"actor {actor.pid}"

    def close(self) -> None:
        """Ends the cluster."""
        self._cluster.shutdown()

    def processes(self) -> list[psutil.Process]:
        """Returns all processes of the trial but this one."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_ours = process.environ().get(MARK) == self._mark
                if is_ours and process.pid != os.getpid() and process.status() != "zombie":
                    found.append(process)
        return found


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "WorkerProcess" in " ".join(process.cmdline())
    return False
