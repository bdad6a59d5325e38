"""The number of workers on each node of a cluster, and of runs in each worker. No Ray and no I/O.

A node's bound is its processor time, about half a core second for a run, or its memory, about 155 MB for a sandbox; a worker's is its event
loop, about 30 turns a second. So a node has few workers with many runs in each, not one worker a core.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from sandbox_runtime.helpers import SESSION_BYTES, SESSIONS_A_CORE

# The host process of 32 to 64 runs takes about one core.
CORES_A_WORKER = 8
MOST_RUNS_A_WORKER = 64


@dataclasses.dataclass(frozen=True)
class Node:
    """The resources of a node that matter here."""

    id: str
    cores: float
    memory_bytes: float


@dataclasses.dataclass(frozen=True)
class Place:
    """One worker: its node, and its runs at once."""

    node: str
    runs: int


def sessions_of(node: Node) -> int:
    """Returns the number of sandboxes that a node has room for: half of its memory, at most 8 per core."""
    by_memory = int(node.memory_bytes // 2 // SESSION_BYTES)
    return max(1, min(by_memory, int(SESSIONS_A_CORE * node.cores)))


def places(
    nodes: Sequence[Node], workers_per_node: int | None = None, runs_per_worker: int | None = None
) -> list[Place]:
    """Returns where workers are to be started. Nodes without cores, such as a head that runs nothing, get none.

    Args:
        nodes: The nodes that are alive.
        workers_per_node: The number of workers; None for one per eight cores.
        runs_per_worker: The runs in each; None for what the node has room for.
    """
    planned = []
    for node in nodes:
        if node.cores <= 0:
            continue
        workers = workers_per_node or max(1, int(node.cores // CORES_A_WORKER))
        runs = runs_per_worker or max(1, min(MOST_RUNS_A_WORKER, sessions_of(node) // workers))
        planned += [Place(node.id, runs)] * workers
    return planned


def missing(wanted: Iterable[Place], running: Iterable[Place]) -> list[Place]:
    """Returns the places that no worker has, after deaths and on nodes that are new."""
    counts = Counter(place.node for place in running)
    free = []
    for place in wanted:
        if counts[place.node] > 0:
            counts[place.node] -= 1
        else:
            free.append(place)
    return free
