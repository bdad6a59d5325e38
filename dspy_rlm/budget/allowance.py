"""The LM calls that a sub-run may cause, a share of what the run above it may; and what they cost.

Every call counts for all runs above, up to the ledger. A sub-run also holds back one call for its extraction,
so that its work is not lost when the calls of the tree are used up.
"""

from __future__ import annotations

import threading
from typing import Protocol

from dspy_rlm.budget.refusals import too_many_calls
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.reports.report import added


class Calls(Protocol):
    """The LM calls that a run may cause: the ledger's, for a root run."""

    @property
    def llm_calls_left(self) -> int:
        """LM calls that may still be caused."""

    @property
    def shown_calls_left(self) -> int:
        """The same for prompts: equal for a run whose replies come from a cache."""

    def charge_llm_calls(self, count: int) -> None:
        """Books calls before they are sent; a batch that does not fit is refused as a whole."""

    def book_llm_calls(self, count: int) -> None:
        """Books calls that an earlier process made: no limit refuses them."""

    def give_back_llm_calls(self, count: int, *, replayed: bool = False) -> None:
        """Refunds calls that were booked and not sent; `replayed` if a cache answered them."""


class Allowance:
    """The LM calls of a sub-run and of all runs below it. Thread-safe.

    Calls that its code causes are charged here; its turns, and its extraction, to `turns`.
    """

    def __init__(
        self, above: Calls, most: int | None = None, most_by_code: int | None = None
    ) -> None:
        """Books nothing yet.

        Args:
            above: The calls of the run above it.
            most: The most calls in all, turns included; None: as many as are left above.
            most_by_code: The most calls that its code may cause, turns not included.
        """
        self.most = most
        self.most_by_code = most_by_code
        self.turns = Turns(self)
        """The same calls for its own turns, which `most_by_code` does not bound."""
        self._above = above
        self._lock = threading.Lock()  # guards the fields below
        self._used = 0
        self._cost: float | None = 0.0
        self._replayed = 0
        self._used_by_code = 0
        self._replayed_by_code = 0
        self._held = 0

    @property
    def llm_calls_left(self) -> int:
        """LM calls that its code may still cause, without the one that is held back."""
        left = self.turns.llm_calls_left
        return (
            left if self.most_by_code is None else min(left, self.most_by_code - self._used_by_code)
        )

    @property
    def shown_calls_left(self) -> int:
        """See `Calls`."""
        left = self.turns.shown_calls_left
        if self.most_by_code is None:
            return left
        return max(min(left, self.most_by_code - self._used_by_code - self._replayed_by_code), 0)

    @property
    def unspent(self) -> int:
        """The calls of the own limit that are not booked; 0 without such a limit."""
        return 0 if self.most is None else max(self.most - self._used, 0)

    @property
    def cost(self) -> float | None:
        """US dollars of the calls that have ended; None if that of one is unknown."""
        return self._cost

    def book(self, cost: float | None) -> None:
        """Adds the cost of a call that has ended, here and in the sub-runs above."""
        with self._lock:
            self._cost = added(self._cost, cost)
        if isinstance(self._above, Allowance):
            self._above.book(cost)

    def charge_llm_calls(self, count: int) -> None:
        """See `Calls`.

        Raises:
            BudgetExceededError: Fewer calls are left, here or above. Nothing is booked.
        """
        self._charge(count, count)

    def book_llm_calls(self, count: int) -> None:
        """See `Calls`."""
        self._book(count, count)

    def give_back_llm_calls(self, count: int, *, replayed: bool = False) -> None:
        """See `Calls`."""
        self._give_back(count, count, replayed=replayed)

    def _charge(self, count: int, by_code: int) -> None:
        with self._lock:
            if self.most_by_code is not None and by_code > (
                left := self.most_by_code - self._used_by_code
            ):
                raise too_many_calls(count, left, self.most_by_code)
            if self.most is not None and count > self.most - self._used:
                raise too_many_calls(count, self.most - self._used, self.most)
            self._used += count
            self._used_by_code += by_code
        try:
            self._above.charge_llm_calls(count)
        except BudgetExceededError:
            with self._lock:
                self._used -= count
                self._used_by_code -= by_code
            raise

    def _book(self, count: int, by_code: int) -> None:
        with self._lock:
            self._used += count
            self._used_by_code += by_code
        self._above.book_llm_calls(count)

    def _give_back(self, count: int, by_code: int, *, replayed: bool) -> None:
        with self._lock:
            self._used -= count
            self._used_by_code -= by_code
            self._replayed += count if replayed else 0
            self._replayed_by_code += by_code if replayed else 0
        self._above.give_back_llm_calls(count, replayed=replayed)

    # ---- The extraction ----

    def hold_back(self) -> None:
        """Books a call for the extraction, if one is left."""
        try:
            self.turns.charge_llm_calls(1)
        except BudgetExceededError:
            return
        with self._lock:
            self._held += 1

    def take_held(self) -> int:
        """Takes the call that is held back; returns 0 if there is none."""
        with self._lock:
            held, self._held = self._held, 0
        return held

    def release(self) -> None:
        """Refunds the call that is held back, if the extraction did not need it. Idempotent."""
        if held := self.take_held():
            self.turns.give_back_llm_calls(held)


class Turns:
    """The LM calls of a sub-run as its turns and its extraction see them."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    @property
    def llm_calls_left(self) -> int:
        """LM calls that are left for turns and code together."""
        one = self._allowance
        left = one._above.llm_calls_left
        return left if one.most is None else min(left, one.most - one._used)

    @property
    def shown_calls_left(self) -> int:
        """See `Calls`."""
        one = self._allowance
        left = one._above.shown_calls_left
        own = left if one.most is None else one.most - one._used - one._replayed
        return max(min(left, own), 0)

    def charge_llm_calls(self, count: int) -> None:
        """See `Calls`."""
        self._allowance._charge(count, 0)

    def book_llm_calls(self, count: int) -> None:
        """See `Calls`."""
        self._allowance._book(count, 0)

    def give_back_llm_calls(self, count: int, *, replayed: bool = False) -> None:
        """See `Calls`."""
        self._allowance._give_back(count, 0, replayed=replayed)


def shares(left: int, sub_runs: int) -> list[int]:
    """Returns the calls of each sub-run of one batch, so that none can starve the others; at least 1.

    They are fixed when the batch begins: what a sub-run's prompts show must not depend on how fast its siblings
    are, or a cache could not answer the next equal run.
    """
    share, rest = divmod(left, sub_runs) if sub_runs else (0, 0)
    return [max(share + (at < rest), 1) for at in range(sub_runs)]
