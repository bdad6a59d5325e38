"""Long-context tasks whose answers are known: generated ones of any length, and importers of published ones.

    from dspy_rlm import tasks

    task = tasks.load("oolong-counting", tokens=32_000, n=20, seed=0)
    rlm = RLM(task.signature, tools=list(task.tools))
    evaluate = dspy.Evaluate(devset=list(task.examples), metric=task.metric)

Generated tasks follow published benchmarks in their form. Their scores are not comparable with published figures, which are measured on
other data.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy_rlm.tasks.loading import load, names
    from dspy_rlm.tasks.reading import formats, read
    from dspy_rlm.tasks.task import Manifest, Metric, Source, Task

__all__ = ["Manifest", "Metric", "Source", "Task", "formats", "load", "names", "read"]

_MODULES = {
    "load": "loading",
    "names": "loading",
    "formats": "reading",
    "read": "reading",
    "Manifest": "task",
    "Metric": "task",
    "Source": "task",
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
