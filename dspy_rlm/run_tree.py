"""What a run tells the runs inside of it, also those that its tools start.

It stands among DSPy's settings: they follow into the threads of `dspy.Parallel` and `dspy.asyncify` too,
as context variables do not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import dspy

from dspy_rlm.concurrency.cancellation import Stop
from sandbox_runtime.helpers import Seat

_SETTING = "rlm_around"


@dataclasses.dataclass(frozen=True)
class Around:
    """What is around a run."""

    seat: Seat | None = None
    """The seat that is held already, and for as long as this run goes on."""

    work: Stop | None = None
    """What ends with the run around."""

    lent: tuple[object, ...] = ()
    """The interpreters of the caller's that are at work already, as factories."""


def around() -> Around:
    """What is around the code that asks."""
    told: Around | None = dspy.settings.get(_SETTING)
    return told or Around()


@contextlib.contextmanager
def telling(told: Around) -> Iterator[None]:
    """Tells it to what is inside."""
    with dspy.context(**{_SETTING: told}):
        yield
