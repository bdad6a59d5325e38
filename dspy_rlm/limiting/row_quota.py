"""The quota of one row: forwards to that of the job, and adds up what was booked for the row."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import Future

from dspy_rlm.limiting.quota import Lease, Quota
from dspy_rlm.reports.booked import booked
from dspy_rlm.reports.report import added


class RowQuota:
    """The quota of the job, as one attempt at a row reaches it; implements `quota.Quota`."""

    def __init__(self, quota: Quota) -> None:
        self.limits_cost = quota.limits_cost
        self._quota = quota
        self._lock = threading.Lock()  # guards the fields below
        self._settled: float | None = 0.0
        self._held: set[Lease] = set()

    @property
    def booked(self) -> float | None:
        """US dollars of the row's calls, those in flight at their bounds; None if one has neither a cost nor a bound."""
        with self._lock:
            return functools.reduce(added, (lease.cost for lease in self._held), self._settled)

    def take(
        self, model: str, tokens: int, cost: float | None, *, first: bool = False, requests: int = 1
    ) -> Future[Lease]:
        """See `Quota.take`."""
        future = self._quota.take(model, tokens, cost, first=first, requests=requests)
        future.add_done_callback(self._granted)
        return future

    def _granted(self, future: Future[Lease]) -> None:
        if not future.cancelled() and future.exception() is None:
            with self._lock:
                self._held.add(future.result())

    def settle(
        self, lease: Lease, *, tokens: int | None, cost: float | None, sent: bool = True
    ) -> None:
        """See `Quota.settle`."""
        with self._lock:
            if lease in self._held:
                self._held.discard(lease)
                if sent:
                    self._settled = added(self._settled, booked(cost, lease.cost))
        self._quota.settle(lease, tokens=tokens, cost=cost, sent=sent)
