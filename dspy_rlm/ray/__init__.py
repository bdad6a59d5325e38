"""RLMs on a Ray cluster: `distributed` for optimizers and evaluations, `Rows` for pipelines. Jobs are `dspy_rlm.batch`.

    program = dspy_rlm.ray.distributed(rlm)
    better = dspy.GEPA(metric, auto="light").compile(program, trainset=trainset, valset=valset)
    better.module.save("better.json")

Needs the extra `dspy-rlm[ray]`, on the driver and on every node. Keys of LMs are never sent: the workers read them from their
own environment.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy_rlm.ray.remote_module import Distributed, distributed
    from dspy_rlm.ray.rows import Rows
    from dspy_rlm.ray.workers import WorkerLostError

__all__ = ["Distributed", "Rows", "WorkerLostError", "distributed"]

_MODULES = {
    "Distributed": "dspy_rlm.ray.remote_module",
    "distributed": "dspy_rlm.ray.remote_module",
    "Rows": "dspy_rlm.ray.rows",
    "WorkerLostError": "dspy_rlm.ray.workers",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
