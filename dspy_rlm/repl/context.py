"""What the sub-calls of one run share: whom they ask, on whose account, and which types they know."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import dspy

from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.anyio_threads import reachable
from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.lms.metering import Meter, metered
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.lms.sub_lms import Models
from dspy_rlm.run_tree import current_outer_run, entering_run
from dspy_rlm.values.conversion import TypeRules
from sandbox_runtime import Limits, PackageSet, Pool, check_call, default_pool

T = TypeVar("T")
R = TypeVar("R")

# Sub-calls of a batch that are made at the same time.
MAX_CONCURRENT_CALLS = 16

# Sandboxes that the code of one run has asked for, at the same time. Each takes about 200 MB.
MAX_CONCURRENT_SANDBOXES = 4


@dataclasses.dataclass(frozen=True)
class Lending:
    """What the sandboxes that code asks for are opened with: the same as that of the run."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    packages: PackageSet | None = None
    pool: Pool = dataclasses.field(default_factory=default_pool)


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

    other_lms: Sequence[dspy.BaseLM | None] = ()
    """LMs that the run has besides, such as the one that writes the code: their secrets are hidden too."""

    stop: CancelScope = dataclasses.field(default_factory=CancelScope)
    """What ends the calls that are under way."""

    lending: Lending = dataclasses.field(default_factory=Lending)
    """What sandboxes below the run are opened with."""

    slots: threading.Semaphore = dataclasses.field(
        default_factory=lambda: threading.Semaphore(MAX_CONCURRENT_SANDBOXES)
    )
    """One for each sandbox that code has asked for."""

    @property
    def is_deepest(self) -> bool:
        """Whether no level is left below the run, for a sandbox of its own."""
        return self.depth >= self.ledger.budget.max_depth

    def secrets(self) -> list[str]:
        """The secrets of the run's LMs, which none of its errors may show."""
        lms = {id(lm): lm for lm in (*self.models.by_name.values(), *self.other_lms) if lm}
        return [secret for lm in lms.values() for secret in secrets_of_lm(lm)]

    def lm(
        self, kind: str, model: str | None = None, *, prepaid: int = 0, included: int = 0
    ) -> dspy.BaseLM:
        """An LM whose calls are booked as sub-calls of this run.

        Args:
            kind: What they are for.
            model: The name of the LM; None is the default.
            prepaid: Calls of it that are charged already.
            included: Calls of it that are paid with a sandbox.

        Raises:
            ValueError: There is no such model.
        """
        meter = Meter(self.ledger, kind, self.depth, self.stop, prepaid=prepaid, included=included)
        return metered(self.models.choose(model), meter)

    @contextlib.contextmanager
    def charged_slot(self) -> Iterator[None]:
        """Charges a sandbox that code asks for, and waits until it is its turn among those of the run.

        Raises:
            BudgetExceededError: There is no LM call left that could use it, so none is opened.
        """
        self.stop.check()
        self.ledger.charge_sandbox()
        with self.slots:
            self.stop.check()
            yield

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """A seat in the pool below that of the run, which waits for what is done on it; see `AdmissionQueue`."""
        slot = self.lending.pool.slot(parent=current_outer_run().slot)
        try:
            with self.stop.ending(slot.release):
                slot.wait()
            self.stop.check()
            with entering_run(dataclasses.replace(current_outer_run(), slot=slot)):
                yield
        finally:
            slot.release()


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
