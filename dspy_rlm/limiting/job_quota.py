"""The quota of a job in one process: evenly spaced requests, and a cap on the cost that is never exceeded.

Knows no LM: calls state the tokens that they expect, and the upper bound of their cost. A call whose bound does not fit
beside those in flight waits for them; one that can never fit is refused. Calls without a bound are sent one at a time, as
long as there is room for the dearest one so far; once one of them has no cost either, nothing more is granted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError

from dspy_rlm.errors import JobStoppedError, SignatureError
from dspy_rlm.limiting.quota import Lease, Rate, UnpricedError
from dspy_rlm.reports.booked import booked, has_no_other
from sandbox_runtime.helpers import start_thread

# Sums of dollars differ in their last digits by the order of the summands.
_ROUNDING = 1e-9


@dataclasses.dataclass(eq=False)
class _Request:
    lease: Lease
    first: bool
    future: Future[Lease] = dataclasses.field(default_factory=Future)


class _Pace:
    """The spacing of one model's requests: the generic cell rate algorithm (ITU-T I.371), without a burst."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._next = 0.0
        self._next_by_tokens = 0.0
        self._latest = 0

    def at(self) -> float:
        """Returns the earliest time of the next request."""
        return max(self._next, self._next_by_tokens)

    def sent(self, lease: Lease, now: float) -> None:
        """Books a request that is sent now."""
        self._latest = lease.id
        if self._rate.rpm:
            self._next = max(self._next, now) + 60.0 * lease.requests / self._rate.rpm
        if self._rate.tpm:
            self._next_by_tokens = (
                max(self._next_by_tokens, now) + 60.0 * lease.tokens / self._rate.tpm
            )

    def correct(self, lease: Lease, tokens: int) -> None:
        """Books the actual tokens of a request in place of the expected ones."""
        if self._rate.tpm:
            self._next_by_tokens += 60.0 * (tokens - lease.tokens) / self._rate.tpm

    def undo(self, lease: Lease) -> None:
        """Gives the time of a request back that was not sent, if no other one was sent after it."""
        if self._rate.rpm and lease.id == self._latest:
            self._next -= 60.0 * lease.requests / self._rate.rpm
        self.correct(lease, 0)


class JobQuota:
    """The quota of a job; implements `quota.Quota`. Thread-safe."""

    def __init__(
        self,
        rates: Mapping[str, Rate] | None = None,
        max_cost: float | None = None,
        spent: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        first_id: int = 1,
    ) -> None:
        """Creates a quota.

        Args:
            rates: The rates by model, named as in `dspy.LM`.
            max_cost: US dollars of the whole job; None: no cap.
            spent: US dollars that the job has spent in earlier processes.
            clock: Returns seconds.
            first_id: The number of the first lease.

        Raises:
            SignatureError: A rate or the cap is not positive.
        """
        self.rates = dict(rates or {})
        self._paces = {
            model: _Pace(checked_rate(model, rate)) for model, rate in (rates or {}).items()
        }
        if max_cost is not None and not max_cost > 0:
            raise SignatureError(
                f"max_cost must be a positive number of US dollars, not {max_cost!r}."
            )
        self.max_cost = max_cost
        self.limits_cost = max_cost is not None
        self.on_refusal: Callable[[], object] = lambda: None
        """Called, under no lock, when the first call is refused because the money is used up."""
        self.is_closed = False
        """True once a call was refused: all later ones are, so that each run ends at its next call."""
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._spent = spent
        self._credit = math.inf
        self._has_unknown = False
        self._unpriced = ""  # the model of a call that had neither a cost nor a bound
        self._dearest: dict[str, float] = {}  # the cost of a call, by model
        self._ids = itertools.count(first_id)
        self._waiting: dict[str, deque[_Request]] = {}
        self._held: dict[int, Lease] = {}
        self._dead: set[str] = set()  # holders that were forgotten
        self._wakes_at: float | None = None  # the time at which the next request may be sent
        self._granter: threading.Thread | None = None

    @property
    def spent(self) -> float:
        """US dollars that the job has spent; calls of unknown cost count at their bound, if there is one."""
        return self._spent

    @property
    def is_exact(self) -> bool:
        """True if the cost of all calls is known."""
        return not self._has_unknown

    @property
    def reserved(self) -> float:
        """The upper bound in US dollars of the calls in flight; for one without a bound, the dearest one so far."""
        with self._changed:
            return self._reserved()

    @property
    def wanted(self) -> float:
        """The upper bound in US dollars of the calls that a higher credit would let go at once."""
        with self._changed:
            if self.max_cost is None or self.is_closed:
                return 0.0
            now, used, wanted = self._clock(), self._spent + self._reserved(), 0.0
            for model, queue in self._waiting.items():
                pace = self._paces.get(model)
                if pace is not None and pace.at() > now:
                    continue
                for request in queue:
                    expected = self._expected(request.lease)
                    if used + wanted + expected > self.max_cost + _ROUNDING:
                        break
                    wanted += expected
                    if pace is not None or not request.lease.is_priced:
                        break  # the next one waits for this one
            return wanted

    def take(
        self,
        model: str,
        tokens: int,
        cost: float | None,
        *,
        first: bool = False,
        requests: int = 1,
        holder: str = "",
    ) -> Future[Lease]:
        """See `Quota.take`. `holder` names the worker, for `forget`: a forgotten one is refused."""
        lease = Lease(next(self._ids), model, requests, tokens, cost, holder)
        request = _Request(lease, first)
        with self._changed:
            is_dead = holder in self._dead
            if not is_dead:
                queue = self._waiting.setdefault(model, deque())
                ahead = sum(1 for other in queue if other.first) if first else len(queue)
                queue.insert(ahead, request)
        if is_dead:
            request.future.set_exception(_holder_died(holder))
        self._grant()
        return request.future

    def settle(
        self, lease: Lease, *, tokens: int | None, cost: float | None, sent: bool = True
    ) -> None:
        """See `Quota.settle`."""
        with self._changed:
            if self._held.pop(lease.id, None) is None:
                return
            pace = self._paces.get(lease.model)
            if not sent:
                if pace:
                    pace.undo(lease)
            else:
                self._book(lease, cost)
                if pace and tokens is not None:
                    pace.correct(lease, tokens)
        self._grant()

    def _book(self, lease: Lease, cost: float | None) -> None:
        amount = booked(cost, lease.cost)
        self._has_unknown = self._has_unknown or cost is None
        if amount is not None:
            self._spent += amount
        elif self.limits_cost:
            self._unpriced = lease.model
        if cost is not None:
            self._dearest[lease.model] = max(self._dearest.get(lease.model, 0.0), cost)

    def book(self, cost: float) -> None:
        """Books money that was spent without a lease, such as by an earlier process."""
        with self._changed:
            self._spent += cost
        self._grant()

    def allow(self, credit: float) -> None:
        """Sets the US dollars that may be spent or reserved for now. What exceeds only them waits for more."""
        with self._changed:
            self._credit = credit
        self._grant()

    def close(self) -> None:
        """Refuses all further calls, as if the money was used up. Idempotent."""
        with self._changed:
            was_closed, self.is_closed = self.is_closed, True
        self._grant()
        if not was_closed:
            self.on_refusal()

    def forget(self, holder: str) -> None:
        """Settles the leases of a worker that died at their bounds: its requests may have been answered.

        Its calls that wait are refused, and so are those that arrive later: nobody would settle them.
        """
        refused: list[_Request] = []
        with self._changed:
            self._dead.add(holder)
            leases = [lease for lease in self._held.values() if lease.holder == holder]
            for model, queue in self._waiting.items():
                refused += [request for request in queue if request.lease.holder == holder]
                self._waiting[model] = deque(
                    request for request in queue if request.lease.holder != holder
                )
        for request in refused:
            with contextlib.suppress(InvalidStateError):
                request.future.set_exception(_holder_died(holder))
        for lease in leases:
            self.settle(lease, tokens=None, cost=None)
        self._grant()

    # ---- Granting ----

    def _grant(self) -> None:
        """Grants what may be sent now, and has a thread grant the rest at its time."""
        granted: list[_Request] = []
        refused: list[_Request] = []
        with self._changed:
            was_closed = self.is_closed
            self._wakes_at = self._granted(granted, refused)
            if self._wakes_at is not None and self._granter is None:
                self._granter = start_thread(self._work, "rlm-quota")
            self._changed.notify_all()
        for request in granted:
            try:
                request.future.set_result(request.lease)
            except InvalidStateError:  # withdrawn meanwhile
                self.settle(request.lease, tokens=None, cost=None, sent=False)
        for request in refused:
            with contextlib.suppress(InvalidStateError):
                request.future.set_exception(self._refusal(request.lease))
        if self.is_closed and not was_closed:
            self.on_refusal()

    def _granted(self, granted: list[_Request], refused: list[_Request]) -> float | None:
        """Moves requests from the queues to the two lists; returns the time at which the next one may be sent."""
        now = self._clock()
        times: list[float] = []
        for model, queue in list(self._waiting.items()):
            pace = self._paces.get(model)
            while queue:
                request = queue[0]
                if request.future.cancelled():
                    queue.popleft()
                elif self.is_closed or self._unpriced:
                    refused.append(queue.popleft())
                elif pace is not None and pace.at() > now:
                    times.append(pace.at())
                    break
                elif self._fits(request.lease, self._credit):
                    queue.popleft()
                    self._held[request.lease.id] = request.lease
                    if pace is not None:
                        pace.sent(request.lease, now)
                    granted.append(request)
                elif self._held:
                    break  # until one of those is settled
                elif self._fits(request.lease, math.inf):
                    break  # until there is more credit
                else:
                    self.is_closed = True
            if not queue:
                del self._waiting[model]
        return min(times, default=None)

    def _fits(self, lease: Lease, credit: float) -> bool:
        if self.max_cost is None:
            return True
        most = min(self.max_cost, credit)
        used = self._spent + self._reserved()
        if not lease.is_priced and not used < most:
            return False
        if not has_no_other(lease.is_priced, (other.is_priced for other in self._held.values())):
            return False
        return used + self._expected(lease) <= most + _ROUNDING

    def _reserved(self) -> float:
        return sum(map(self._expected, self._held.values()))

    def _expected(self, lease: Lease) -> float:
        """Returns what is reserved for a call: its bound, else the cost of the dearest one of its model so far."""
        return self._dearest.get(lease.model, 0.0) if lease.cost is None else lease.cost

    def _refusal(self, lease: Lease) -> JobStoppedError:
        if self._unpriced:
            return _price_unknown(self._unpriced)
        return _too_expensive(self.max_cost, lease.model, self._expected(lease))

    def _work(self) -> None:
        """Grants requests at their times, until none waits for its time."""
        while True:
            with self._changed:
                if self._wakes_at is None:
                    self._granter = None
                    return
                self._changed.wait(max(self._wakes_at - self._clock(), 0.0))
            self._grant()


def checked_rate(model: str, rate: Rate) -> Rate:
    """Returns a rate. Raises `SignatureError` if it is none."""
    if not isinstance(rate, Rate):
        raise SignatureError(f"rates[{model!r}] must be a dspy_rlm.Rate, not {rate!r}.")
    for name, number in vars(rate).items():
        if number is not None and not (
            isinstance(number, (int, float)) and not isinstance(number, bool) and number > 0
        ):
            raise SignatureError(
                f"rates[{model!r}].{name} must be a positive number, not {number!r}."
            )
    return rate


def _too_expensive(max_cost: float | None, model: str, cost: float) -> JobStoppedError:
    return JobStoppedError(
        f"The job's max_cost=${max_cost:,.6g} has no room for another call of {model} (at most ${cost:,.4g})."
    )


def _holder_died(holder: str) -> JobStoppedError:
    return JobStoppedError(f"The worker {holder!r} has died, so its calls are not sent.")


def _price_unknown(model: str) -> JobStoppedError:
    return UnpricedError(
        f"A call of {model!r} had no known cost and no bound, so the job's max_cost cannot be kept. Give the price of the "
        f"model to the RLM: prices={{{model!r}: (dollars for a million tokens of prompts, of replies)}}. With a price, its "
        "server has to report the tokens of each reply. Or leave max_cost out."
    )
