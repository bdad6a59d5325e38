"""The rows of a comparison, measured in parallel within a budget. Items come first: all systems on one, then on the next.

So what a budget cuts off is missing for all systems alike, and the others are still pairs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from dspy_rlm.comparing.items import Item
from dspy_rlm.comparing.rows import Row
from dspy_rlm.comparing.systems import System
from sandbox_runtime.helpers import DaemonPool


@dataclass(frozen=True)
class Job:
    """A row to measure."""

    system: System
    setup: str
    item: Item


@dataclass
class Purse:
    """The money that may be spent and that was spent, by system. No I/O."""

    max_cost: float | None
    spent: float = 0.0
    is_unknown: bool = False
    """True if the cost of a row is unknown."""

    _dearest: dict[str, float] = field(default_factory=dict)
    _in_flight: Counter[str] = field(default_factory=Counter)

    def book(self, row: Row) -> None:
        """Books a row, also one of an earlier process."""
        if row.cost is None:
            self.is_unknown = True
            return
        self.spent += row.cost
        self._dearest[row.system] = max(self._dearest.get(row.system, 0.0), row.cost)

    def begin(self, system: str) -> None:
        """Notes a row that has begun."""
        self._in_flight[system] += 1

    def end(self, system: str) -> None:
        """Notes a row that has ended."""
        self._in_flight[system] -= 1

    def allows(self, system: str) -> bool | None:
        """Returns whether a row fits the limit; None: only once those in flight have ended.

        A row is expected to cost no more than the dearest one of its system. Until there is one, one is measured alone.
        """
        if self.max_cost is None:
            return True
        reserved = sum(self._dearest.get(name, 0.0) * n for name, n in self._in_flight.items())
        if self.is_unknown or self.spent + self._dearest.get(system, 0.0) > self.max_cost:
            return False
        if self.spent >= self.max_cost > 0:
            return False
        if system not in self._dearest:
            return None if self._in_flight[system] else True
        return True if self.spent + reserved + self._dearest[system] <= self.max_cost else None


def run_jobs(
    jobs: Iterable[Job],
    measure: Callable[[Job], Row],
    purse: Purse,
    *,
    threads: int,
    max_seconds: float | None,
    on_row: Callable[[Row], object],
) -> str:
    """Measures rows until all are there or a limit is reached; returns the limit, or an empty string.

    Rows in flight when a limit is reached are waited for: what they cost is spent already.
    """
    until = None if max_seconds is None else time.monotonic() + max_seconds
    queued = list(jobs)
    running: dict[Future[Row], Job] = {}
    stopped = ""
    pool = DaemonPool(threads, "dspy-rlm-compare")
    try:
        while queued or running:
            if until is not None and time.monotonic() >= until and queued:
                stopped, queued = "max_seconds", []
            while queued and len(running) < threads:
                index = _next(queued, purse)
                if index is None:
                    break
                job = queued.pop(index)
                purse.begin(job.system.name)
                running[pool.submit(lambda job=job: measure(job))] = job  # type: ignore[misc]
            if not running:
                # None of them is in flight, so none can be waited for.
                return stopped or (_limit(purse) if queued else "")
            timeout = None if until is None else max(0.05, until - time.monotonic())
            done, _ = wait(running, timeout=timeout, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                row = future.result()
                purse.end(job.system.name)
                purse.book(row)
                on_row(row)
    finally:
        pool.close(cancel_queued=True)
    return stopped


def _next(queued: list[Job], purse: Purse) -> int | None:
    """Returns the position of the first row that may begin now. A system that must wait does not stop the others."""
    waiting: dict[str, Any] = {}
    for index, job in enumerate(queued):
        name = job.system.name
        if name in waiting:
            continue
        allowed = purse.allows(name)
        if allowed:
            return index
        if allowed is False:
            return None  # a later item of a cheaper system would have no pair
        waiting[name] = allowed
    return None


def _limit(purse: Purse) -> str:
    return "price unknown" if purse.is_unknown else "max_cost"
