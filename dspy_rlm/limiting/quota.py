"""The protocol of a quota: the rates and the money that all calls of a job share, whatever process they are sent from.

A call takes a lease before it is sent, and settles it with what it took. `job_quota.py` implements the protocol for one
process. An engine on many machines has one `JobQuota` in an actor, and in each worker an object with the same two methods
that forwards to it: arguments and leases are plain values.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future
from typing import Protocol

import dspy

from dspy_rlm.concurrency.waiting import wait_async, wait_blocking
from dspy_rlm.errors import JobStoppedError

# The setting of DSPy that holds the quota of the job that a run is a part of.
SETTING = "rlm_quota"


class UnpricedError(JobStoppedError):
    """The job has stopped, because a call had neither a cost nor a bound, so that its `max_cost` cannot be kept."""


@dataclasses.dataclass(frozen=True)
class Rate:
    """The rates of one model for a whole job; None: no limit.

    Requests are spaced evenly: servers count in intervals far shorter than the minute that they state.
    """

    rpm: float | None = None
    """Requests per minute."""

    tpm: float | None = None
    """Tokens of prompts and replies per minute. Those of a call are estimated until it is settled."""


@dataclasses.dataclass(frozen=True)
class Lease:
    """The right to send requests now. Plain data: it may travel between processes."""

    id: int
    model: str
    requests: int = 1
    tokens: int = 0
    """The tokens that were expected."""

    cost: float | None = None
    """The upper bound in US dollars that is reserved; None: nothing bounds the cost."""

    holder: str = ""
    """The worker that has it; see `Quota.forget`."""

    @property
    def is_priced(self) -> bool:
        """True if there is an upper bound of the cost."""
        return self.cost is not None


class Quota(Protocol):
    """The rates and the money of a job. Thread-safe. No method blocks."""

    limits_cost: bool
    """True if calls must state an upper bound of their cost."""

    def take(
        self, model: str, tokens: int, cost: float | None, *, first: bool = False, requests: int = 1
    ) -> Future[Lease]:
        """Requests a lease, and returns its future. Cancelling the future withdraws the request.

        Args:
            model: The name of the model, as in `dspy.LM`.
            tokens: The expected tokens of prompts and replies.
            cost: The upper bound of the cost in US dollars; None if nothing bounds it, or `limits_cost` is false.
            first: True for turns of root runs, whose sub-calls wait for them.
            requests: The number of requests: a worker may take some in advance.

        The future raises:
            JobStoppedError: `max_cost` has no room for it, however the calls in flight end.
            UnpricedError: `max_cost` cannot be kept: a call before it had neither a cost nor a bound.
        """

    def settle(
        self, lease: Lease, *, tokens: int | None, cost: float | None, sent: bool = True
    ) -> None:
        """Books the actual amount in place of the reserved one. Idempotent.

        Args:
            lease: The lease.
            tokens: The actual tokens; None: as expected.
            cost: The actual cost; None: unknown, so it counts at its bound. Without a bound, nothing more is granted.
            sent: False if nothing was sent, or a cache answered.
        """


class LeaseRequest:
    """A lease that a call waits for. The interface is that of the other places that a call waits for."""

    def __init__(self, quota: Quota, granted: Future[Lease]) -> None:
        self.granted = granted
        self._quota = quota
        self._is_settled = False

    @property
    def bound(self) -> float:
        """The upper bound of the cost in US dollars; 0 without one, and before it is granted."""
        if not self.granted.done() or self.granted.cancelled() or self.granted.exception():
            return 0.0
        cost = self.granted.result().cost
        return 0.0 if cost is None else cost

    def wait(self) -> None:
        """Blocks until the call may be sent, or the request is left.

        Raises:
            JobStoppedError: The job has no money left for it.
        """
        wait_blocking(self.granted)

    async def soon(self) -> None:
        """Like `wait`, for an event loop."""
        await wait_async(self.granted)
        self.wait()

    def leave(self) -> None:
        """Withdraws the request, or gives an unused lease back. Idempotent; never blocks."""
        if not self.granted.cancel() and self.granted.done():
            self.settle(None, None, sent=False)

    def settle(self, tokens: int | None, cost: float | None, *, sent: bool) -> None:
        """See `Quota.settle`."""
        if self._is_settled or self.granted.cancelled() or self.granted.exception() is not None:
            return
        self._is_settled = True
        self._quota.settle(self.granted.result(), tokens=tokens, cost=cost, sent=sent)


def current_quota() -> Quota | None:
    """Returns the quota of the job that the calling code is a part of; None outside of all jobs."""
    quota: Quota | None = dspy.settings.get(SETTING)
    return quota
