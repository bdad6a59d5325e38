"""What a run tells the runs inside of it, also those that its tools start.

It stands among DSPy's settings: they follow into the threads of `dspy.Parallel` and `dspy.asyncify` too,
as context variables do not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import dspy

from dspy_rlm.concurrency.cancellation import CancelScope
from sandbox_runtime.helpers import Slot

_SETTING = "rlm_around"


@dataclasses.dataclass(frozen=True)
class OuterRun:
    """What is around a run."""

    slot: Slot | None = None
    """The seat that is held already, and for as long as this run goes on."""

    work: CancelScope | None = None
    """What ends with the run around."""

    lent: tuple[object, ...] = ()
    """The interpreters of the caller's that are at work already, as factories."""


def current_outer_run() -> OuterRun:
    """What is around the code that asks."""
    told: OuterRun | None = dspy.settings.get(_SETTING)
    return told or OuterRun()


@contextlib.contextmanager
def entering_run(told: OuterRun) -> Iterator[None]:
    """Tells it to what is inside."""
    with dspy.context(**{_SETTING: told}):
        yield
