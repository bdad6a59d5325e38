"""The spending of a run and all its sub-runs, on one ledger that never exceeds the limits.

Before a call is sent, its upper bound is reserved; afterwards, the actual amount is booked instead. A call
that does not fit beside those in flight waits for them; one that can never fit is refused. `call_queue.py`
keeps their order, `call_bounds.py` computes the bounds. Knows no LM: `metering.py` supplies the amounts.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dspy_rlm.budget.admission import Amount, CallPlan, Room, reply_ever, reply_now
from dspy_rlm.budget.allowance import Calls
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.call_bounds import CallBounds
from dspy_rlm.budget.call_queue import CallQueue, Reservation, Verdict
from dspy_rlm.budget.refusals import price_unknown, too_expensive, too_late, too_many_calls
from dspy_rlm.errors import BudgetExceededError, PriceUnknownError
from dspy_rlm.reports.booked import has_no_other
from dspy_rlm.reports.report import UNDER_WAY, Call, Usage, added

# The share of the time that is held back for the extraction.
HELD_BACK = 0.1

# The most dollars that are held back of a small budget, in turns. The bound of a request is above its cost, because its
# tokens are not known before it is sent: 2.4 times that of a turn in `test_dollars_end_a_run`.
MAX_HELD_TURNS = 3

# Tokens for the extraction's instructions (at most 800 for signatures of usual size), for the last output if it
# is shortened, and for a short reply. At most a tenth of a small budget.
EXTRACTION_TOKENS = 1_600


@dataclasses.dataclass(frozen=True)
class Spent:
    """The actual amount of a call, as far as it is known."""

    call: Call
    answered: bool = True
    """True if it ended with a reply. Only then does it say anything about later calls."""

    reply_bytes: int = 0
    """Bytes of the reply: they bound its tokens if the LM reports none."""

    discounted: bool = False
    """True if a part of the prompt was charged at a lower price, as with a provider's cache."""

    reserved: Amount | None = None
    """The amount that was reserved for a call of an earlier process: its bound, if the actual one is unknown."""

    replayed: Amount = dataclasses.field(default_factory=Amount)
    """The amount that the reply of a cache had taken when it was computed. It counts only in `Ledger.left`."""


class Ledger:
    """Counts the spending of a tree of runs on the host. Safe to share between threads and event loops."""

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts counting, and the clock. `clock` returns seconds."""
        self.budget = budget
        self.started_at = datetime.now(UTC)
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()  # guards everything below
        self._llm_calls = 0
        self._spent = Amount()
        self._replayed = Amount()
        self._answered: set[bytes] = set()  # digests of the calls that were answered in this run
        self._replayed_calls = 0
        self._queue = CallQueue(self._decided)
        self._bounds = CallBounds(in_dollars=budget.max_cost is not None)
        self._unbounded = False  # whether a call may have had any cost
        self._unpriced = ""
        self._usage: dict[tuple[int, str], Usage] = {}
        self._calls: list[Call] = []
        self._turns: dict[int, Amount] = {}
        self._extraction = Amount()

    # ---- Sub-calls ----

    @property
    def llm_calls(self) -> int:
        """LM calls that code has caused so far."""
        return self._llm_calls

    @property
    def llm_calls_left(self) -> int:
        """LM calls that code may still cause."""
        return self.budget.max_llm_calls - self._llm_calls

    @property
    def shown_calls_left(self) -> int:
        """The calls left, for prompts: see `left`."""
        return max(self.llm_calls_left - self._replayed_calls, 0)

    def charge_llm_calls(self, count: int) -> None:
        """Books calls before they are sent; a batch that does not fit is refused as a whole.

        Raises:
            BudgetExceededError: Fewer calls are left. Nothing is booked.
        """
        with self._lock:
            left = self.llm_calls_left
            if count > left:
                raise too_many_calls(count, left, self.budget.max_llm_calls)
            self._llm_calls += count

    def book_llm_calls(self, count: int) -> None:
        """Books calls that an earlier process made: no limit refuses them."""
        with self._lock:
            self._llm_calls += count

    def give_back_llm_calls(self, count: int, *, replayed: bool = False) -> None:
        """Refunds calls that were booked and not sent; `replayed` if a cache answered them."""
        with self._lock:
            self._llm_calls -= count
            self._replayed_calls += count if replayed else 0

    def note_answered(self, digest: bytes) -> bool:
        """Notes that a call was answered; returns whether it is the first one of its kind in this run."""
        with self._lock:
            is_first = digest not in self._answered
            self._answered.add(digest)
        return is_first

    def check_room(self) -> None:
        """Raises `BudgetExceededError` if tokens, dollars or time leave no room for any call."""
        with self._lock:
            self._refuse_beyond(Amount(1), self._held())

    # ---- Time ----

    def begin(self, seconds: float = 0.0, started_at: datetime | None = None) -> None:
        """Restarts the clock: until now the run had no sandbox.

        Args:
            seconds: The time that the run took in earlier processes.
            started_at: When it began there.
        """
        self.started_at = started_at or datetime.now(UTC)
        self._started = self._clock() - seconds

    @property
    def seconds(self) -> float:
        """Seconds since the root run began."""
        return self._clock() - self._started

    def work_seconds_left(self) -> float:
        """Returns the time left for everything but the last call of the root run; infinite without a limit."""
        if self.budget.max_seconds is None:
            return math.inf
        with self._lock:
            return self.budget.max_seconds - self.seconds - self._held().seconds

    def _held(self) -> Amount:
        """Returns the amount held back for the root run's extraction, whose prompt is like the last turn's."""
        least = (self.budget.max_seconds or 0) * HELD_BACK
        return dataclasses.replace(self._extraction, seconds=max(self._extraction.seconds, least))

    # ---- Tokens and money ----

    def trust(self, text: str) -> None:
        """Adds text of prompts that comes from us or the program's author; see `Counted.trust`."""
        with self._lock:
            self._bounds.trust(text)

    def reserve(self, plan: CallPlan) -> Reservation:
        """Queues a call. The caller waits for the reservation, then settles or leaves it.

        Raises:
            BudgetExceededError: It cannot fit, however the calls in flight end.
        """
        reservation = Reservation(self, plan)
        if self.budget.is_metered:
            plan.prompt.read()  # slow for long prompts, so not under the lock
        with self._lock:
            self._queue.join(reservation)
        if reservation.granted.done():
            reservation.wait()
        return reservation

    def take_back(self, reservation: Reservation, *, only_waiting: bool = False) -> None:
        """Releases a reservation. Idempotent."""
        with self._lock:
            if reservation in self._queue.waiting or not only_waiting:
                self._queue.drop(reservation)
            self._queue.admit()

    def book(self, plan: CallPlan, spent: Spent) -> None:
        """Books a call that an earlier process made, as it was: no limit refuses it."""
        reservation = Reservation(self, plan)
        if self.budget.is_metered:
            plan.prompt.read()
        with self._lock:
            if self.budget.is_metered:
                reservation.prompt = self._bounds.prompt(plan)
                reservation.amount = self._bounds.most(plan, reservation.prompt, plan.asks_for)
                if spent.reserved is not None:
                    reservation.amount = spent.reserved
            self._queue.in_flight[reservation] = None
        self.settle(reservation, spent)

    def settle(self, reservation: Reservation, spent: Spent) -> None:
        """Books the actual amount in place of the reserved one. Unknown parts count at their bound."""
        with self._lock:
            if reservation not in self._queue.in_flight:
                return
            self._queue.drop(reservation)
            call = spent.call
            self._calls.append(call)
            key = call.depth, call.model
            self._usage[key] = self._usage.get(key, Usage(call.model, call.depth)).plus(call)
            self._replayed = self._replayed.plus(spent.replayed)
            if not call.cached:
                self._book(reservation, spent)
            self._queue.admit()

    def _book(self, reservation: Reservation, spent: Spent) -> None:
        call = spent.call
        tokens, cost = reservation.amount.tokens, reservation.amount.cost
        if spent.answered or call.input_tokens is not None:
            tokens = (
                reservation.prompt.input_tokens if call.input_tokens is None else call.input_tokens
            )
            tokens += spent.reply_bytes if call.output_tokens is None else call.output_tokens
        if call.cost is not None:
            cost = call.cost
        elif spent.answered:
            self._unpriced = call.model
        else:
            is_bounded = reservation.prompt.is_priced or bool(
                spent.reserved and spent.reserved.cost
            )
            self._unbounded = self._unbounded or not is_bounded
        self._spent = self._spent.plus(Amount(tokens, cost))
        if call.kind == "action":
            self._turns[call.depth] = Amount(tokens, cost, call.seconds)
        if spent.answered and self.budget.is_metered:
            self._bounds.learn(
                reservation.plan, reservation.prompt, call, discounted=spent.discounted
            )
        if call.kind == "action" and call.depth == 0:
            self._hold_back(reservation, spent, Amount(tokens, cost, call.seconds))

    def _hold_back(self, reservation: Reservation, spent: Spent, turn: Amount) -> None:
        """Holds back this turn's amount for the extraction, plus a bound for what is new in its prompt."""
        call, most = spent.call, self.budget.max_tokens
        answer = EXTRACTION_TOKENS if most is None else min(EXTRACTION_TOKENS, most // 10)
        prompt = turn.tokens + spent.reply_bytes - (call.output_tokens or 0)
        cost = 0.0
        if self.budget.max_cost is not None:
            cost = self._bounds.extraction_cost(reservation.plan, prompt, answer)
            most_held = max(self.budget.max_cost * HELD_BACK, MAX_HELD_TURNS * turn.cost)
            cost = max(min(cost, most_held), turn.cost)
        self._extraction = Amount(prompt + answer, cost, turn.seconds)

    # ---- Admission ----

    def _decided(self, reservation: Reservation) -> Verdict:
        """Returns whether a call is sent now, and reserves its amount. Raises if it can never be sent."""
        plan, budget = reservation.plan, self.budget
        is_last = plan.final and plan.depth == 0
        held = Amount() if is_last else self._held()
        if not is_last and budget.max_seconds is not None:
            self._refuse_late(held)
        if not budget.is_metered:
            return Verdict.SENT
        self._refuse_unpriced()
        reservation.prompt = self._bounds.prompt(plan)
        if self._unbounded and not reservation.prompt.is_priced:
            raise price_unknown(plan.model)
        try:
            return self._fitted(reservation, held)
        except BudgetExceededError:
            if not self._may_be_cheaper(reservation, held):
                raise
        # The bound from a learned price does not fit, but the usual cost of such calls does.
        reservation.prompt = dataclasses.replace(reservation.prompt, is_priced=False)
        return self._fitted(reservation, held)

    def _fitted(self, reservation: Reservation, held: Amount) -> Verdict:
        """Returns whether the bound of a call fits, now or later. Raises if it never does."""
        plan, prompt, in_flight = reservation.plan, reservation.prompt, self._queue.in_flight
        usual = self._bounds.usual_reply(plan, prompt)
        bound = functools.partial(self._bounds.most, plan, prompt)
        reply = reply_now(plan, bound, self._room(held, beside=in_flight), usual)
        if reply is None:
            # Spending is final, so there will never be more room than this.
            reply = reply_ever(plan, bound, self._room(held), usual)
            if reply is None:
                need = bound(plan.least(usual)).plus(held)
                raise too_expensive(self.budget, self._spent, need, beyond_doubt=True)
            if in_flight:
                return Verdict.WAITS_FOR_ROOM
        if not has_no_other(prompt.is_priced, (other.prompt.is_priced for other in in_flight)):
            return Verdict.WAITS_FOR_A_PRICE
        reservation.reply_tokens, reservation.amount = reply, bound(reply)
        return Verdict.SENT

    def _may_be_cheaper(self, reservation: Reservation, held: Amount) -> bool:
        """Returns whether a call with a learned price fits at the usual cost of such calls."""
        usual = self._bounds.usual_cost(reservation.plan, reservation.prompt)
        return usual is not None and not self._unbounded and self._room(held).has(Amount(0, usual))

    def _room(self, held: Amount, beside: Any = ()) -> Room:
        """Returns what may be spent beside these reservations and the amount held back."""
        used = self._spent.plus(held)
        for reservation in beside:
            used = used.plus(reservation.amount)
        tokens, cost = self.budget.max_tokens, self.budget.max_cost
        return Room(
            math.inf if tokens is None else tokens - used.tokens,
            math.inf if cost is None else cost - used.cost,
        )

    def exhausted(self, depth: int) -> str:
        """Returns the name of the limit that allows no further turn of a run, or "".

        A turn is assumed to need what the last one took, and so is the extraction after it.
        """
        with self._lock:
            try:
                self._refuse_beyond(self._turns.get(depth, Amount()), self._held())
            except PriceUnknownError:
                return ""  # not the end: the next call raises it
            except BudgetExceededError as error:
                return error.limit
            return ""

    def _refuse_beyond(self, amount: Amount, held: Amount) -> None:
        """Raises if the amount does not fit beside the spent and held-back amounts."""
        self._refuse_late(held.plus(Amount(seconds=amount.seconds)))
        self._refuse_unpriced()
        if not self._room(held).has(amount):
            raise too_expensive(self.budget, self._spent, amount.plus(held))

    def _refuse_late(self, held: Amount) -> None:
        most = self.budget.max_seconds
        if most is not None and self.seconds + held.seconds > most:
            raise too_late(self.seconds, held.seconds, most)

    def _refuse_unpriced(self) -> None:
        if self.budget.max_cost is not None and self._unpriced:
            raise price_unknown(self._unpriced)

    def left(self, calls: Calls | None = None) -> dict[str, Any]:
        """Returns the rest of each limit that is set, by unit, for prompts and code. `calls` are those of a sub-run.

        A reply of a cache counts as if it had been computed, unless this run has asked the same before: equal
        runs then have equal prompts, which the cache answers. The limits themselves count what is spent. Of the
        seconds, those that are held back for the extraction are not left.
        """
        budget = self.budget
        with self._lock:
            used = self._spent.plus(self._replayed)
            left: dict[str, Any] = {"llm_calls": (calls or self).shown_calls_left}
            if budget.max_tokens is not None:
                left["tokens"] = max(budget.max_tokens - int(used.tokens), 0)
            if budget.max_cost is not None:
                left["cost"] = round(max(budget.max_cost - used.cost, 0.0), 6)
            if budget.max_seconds is not None:
                work = budget.max_seconds - self.seconds - self._held().seconds
                left["seconds"] = round(max(work, 0.0), 1)
        return left

    # ---- The report ----

    def usage(self) -> tuple[Usage, ...]:
        """Returns the totals by depth and model. Calls in flight are included, with unknown amounts as None."""
        with self._lock:
            usage = dict(self._usage)
            for call in self._under_way():
                key = call.depth, call.model
                usage[key] = usage.get(key, Usage(call.model, call.depth)).plus(call)
            return tuple(usage[key] for key in sorted(usage))

    def cost(self) -> float | None:
        """Returns the total in US dollars; None if a call's cost is unknown, or it is in flight."""
        total: float | None = 0.0
        for usage in self.usage():
            total = added(total, usage.cost)
        return total

    def cost_at_most(self) -> float | None:
        """Returns the total in US dollars, with upper bounds for calls of unknown cost; None without a bound."""
        with self._lock:
            if self._unpriced or self._unbounded:
                return None
            if self.budget.max_cost is None:
                under_way = [
                    *self._queue.in_flight,
                    *(call for call in self._calls if call.cost is None),
                ]
                return None if under_way else self._spent.cost
            if not all(reservation.prompt.is_priced for reservation in self._queue.in_flight):
                return None
            return sum((r.amount.cost for r in self._queue.in_flight), self._spent.cost)

    def sub_calls(self) -> tuple[Call, ...]:
        """Returns the calls that code caused, in the order in which they ended."""
        with self._lock:
            return tuple(call for call in self._calls if call.is_sub_call)

    def under_way(self) -> tuple[Call, ...]:
        """Returns the calls in flight, with None for their amounts."""
        with self._lock:
            return tuple(self._under_way())

    def _under_way(self) -> list[Call]:
        return [
            Call(r.plan.kind, r.plan.model, r.plan.depth, r.plan.chars, error=UNDER_WAY)
            for r in self._queue.in_flight
        ]
