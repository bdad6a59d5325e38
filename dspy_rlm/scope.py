"""What the sub-calls of one run share: whom they ask, on whose account, and which types they know."""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import dspy

from dspy_rlm.budget import Ledger
from dspy_rlm.metering import Meter, metered
from dspy_rlm.models import Models
from dspy_rlm.stopping import Stop
from dspy_rlm.streams import reachable
from dspy_rlm.types import TypeRules
from sandbox_runtime import check_call

T = TypeVar("T")
R = TypeVar("R")

# Sub-calls of a batch that are made at the same time.
MAX_CONCURRENT_CALLS = 16


@dataclasses.dataclass(frozen=True)
class Scope:
    """A run's place in its tree, as its sub-calls see it."""

    models: Models
    ledger: Ledger
    depth: int = 0
    """Of the run: 0 is the root."""

    types: Mapping[str, type] = dataclasses.field(default_factory=dict)
    """The classes that the run declares, by name."""

    rules: TypeRules = ()
    """How values of some types cross."""

    stop: Stop = dataclasses.field(default_factory=Stop)
    """What ends the calls that are under way."""

    def lm(self, kind: str, model: str | None = None, prepaid: int = 0) -> dspy.BaseLM:
        """An LM whose calls are booked. `prepaid` of them are charged already.

        Raises:
            ValueError: There is no such model.
        """
        return self.metered(self.models.choose(model), kind, prepaid)

    def metered(self, lm: dspy.BaseLM, kind: str, prepaid: int = 0) -> dspy.BaseLM:
        """The LM with its calls booked as sub-calls of this run."""
        return metered(lm, Meter(self.ledger, kind, self.depth, self.stop, prepaid=prepaid))


def _unless_over(work: Callable[[T], R]) -> Callable[[T], R]:
    """The work, not begun for items whose turn comes when the cell that asked is over."""

    def begin(item: T) -> R:
        check_call()
        return work(item)

    return begin


def at_once(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The results of the work for all items, each done in a copy of the caller's context."""
    if not items:
        return []
    work = reachable(_unless_over(work))
    pool = ThreadPoolExecutor(min(MAX_CONCURRENT_CALLS, len(items)))
    try:
        jobs = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
        return [job.result() for job in jobs]
    finally:
        # After Ctrl-C what was not sent yet stays unsent; answers on their way are nobody's.
        pool.shutdown(wait=False, cancel_futures=True)
