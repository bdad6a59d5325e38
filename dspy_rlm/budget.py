"""What a run may spend, and what it has spent: one ledger for a run and all the runs below it.

Money is reserved before a call and settled after it, so that calls at the same time cannot overspend
together. Knows no LM: `metering.py` tells it what a call took.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from dspy_rlm.errors import BudgetExceededError, SignatureError

# The limits by name, with the least value of each that counts.
_COUNTS = {
    "max_iterations": 1,
    "max_llm_calls": 0,
    "max_depth": 0,
    "max_tokens": 1,
    "max_errors": 1,
}
_AMOUNTS = ("max_cost", "max_seconds")

# Of the time, at least so much is held back for the extraction.
HELD_BACK = 0.1

_LEFT_OUT = ("max_tokens", "max_errors", *_AMOUNTS)


@dataclasses.dataclass(frozen=True)
class Budget:
    """The limits of one run, which the runs below it share. None: no limit.

    Raises:
        SignatureError: A limit is not a number in its range.
    """

    max_iterations: int = 20
    """Turns of the root LM, at least 1. When they are used up, the outputs are extracted."""

    max_llm_calls: int = 50
    """Calls of LMs that the run's code may cause. 0 allows none."""

    max_depth: int = 1
    """Levels of runs below the root. 0: no `sub_rlm`."""

    max_cost: float | None = None
    """US dollars for all LMs together."""

    max_tokens: int | None = None
    """Tokens of prompts and replies of all LMs together."""

    max_seconds: float | None = None
    """Wall time, from when the run has its sandbox. Cells and calls that are under way are stopped in time
    for the outputs to be extracted."""

    max_errors: int | None = None
    """Turns in a row that may fail."""

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if value is None and name in _LEFT_OUT:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SignatureError(
                    f"{name} must be a whole number, {least} or more, not {value!r}."
                )
        for name in _AMOUNTS:
            value = getattr(self, name)
            right = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (right and math.isfinite(value) and value > 0):
                raise SignatureError(f"{name} must be a positive number, not {value!r}.")


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an LM: what it was for, and what it took."""

    kind: str
    """What asked: `action` and `extract` of a run, or the name of a function of the REPL."""

    model: str
    depth: int
    """Of the run that it was made for: 0 is the root."""

    chars_in: int = 0
    chars_out: int = 0
    seconds: float = 0.0
    input_tokens: int | None = None
    """None: not reported, or not waited for."""
    output_tokens: int | None = None
    cost: float | None = None
    """US dollars; None: the price is unknown, or the answer was not waited for."""
    cached: bool = False
    """Answered from DSPy's cache, for nothing."""
    error: str = ""
    """What went wrong, if anything did."""

    @property
    def is_sub_call(self) -> bool:
        """True for what code asked for; false for the root run's own turns."""
        return self.depth > 0 or self.kind not in ("action", "extract")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What the calls of one model at one depth took together."""

    model: str
    depth: int
    calls: int = 0
    """Calls that were sent."""
    cached: int = 0
    """Calls that a cache answered, for nothing."""
    input_tokens: int | None = 0
    """None: a call did not report them."""
    output_tokens: int | None = 0
    cost: float | None = 0.0
    """US dollars; None: the price of a call is unknown."""

    def plus(self, call: Call) -> Usage:
        """With one call more."""
        if call.cached:
            return dataclasses.replace(self, cached=self.cached + 1)
        return dataclasses.replace(
            self,
            calls=self.calls + 1,
            input_tokens=_sum(self.input_tokens, call.input_tokens),
            output_tokens=_sum(self.output_tokens, call.output_tokens),
            cost=_sum(self.cost, call.cost),
        )


@dataclasses.dataclass(frozen=True)
class Amount:
    """Tokens, US dollars and seconds."""

    tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0


@dataclasses.dataclass
class _Rates:
    """What the calls of a model took so far, from which the next one is estimated."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def add(self, call: Call) -> None:
        """Takes in what a call took; one that failed says nothing about others."""
        if not call.error:
            self.calls += 1
            self.input_tokens += call.input_tokens or 0
            self.output_tokens += call.output_tokens or 0
            self.cost += call.cost or 0.0

    def estimate(self, input_tokens: int) -> Amount:
        """What a call with such a prompt will take, if it is like those before."""
        tokens = input_tokens + (self.output_tokens // self.calls if self.calls else 0)
        spent = self.input_tokens + self.output_tokens
        return Amount(tokens, tokens * self.cost / spent if spent else 0.0)


class Ledger:
    """Counts the spending of a tree of runs on the host. Safe to share between threads."""

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins to count, and the time with it. `clock` tells seconds."""
        self.budget = budget
        self.started_at = datetime.now(UTC)
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()  # guards everything below
        self._llm_calls = 0
        self._tokens = 0
        self._cost = 0.0
        self._reserved: dict[int, Amount] = {}
        self._tickets = 0
        self._rates: dict[str, _Rates] = {}
        self._unpriced = ""
        self._usage: dict[tuple[int, str], Usage] = {}
        self._calls: list[Call] = []
        self._turns: dict[int, Amount] = {}

    # ---- Calls that code asks for ----

    @property
    def llm_calls(self) -> int:
        """Calls of LMs that code has caused so far."""
        return self._llm_calls

    @property
    def llm_calls_left(self) -> int:
        """Calls of LMs that code may still cause."""
        return self.budget.max_llm_calls - self._llm_calls

    def charge_llm_calls(self, count: int) -> None:
        """Books calls before they are made; a batch that does not fit is refused whole.

        Raises:
            BudgetExceededError: Fewer calls are left. Nothing is booked.
        """
        with self._lock:
            left = self.llm_calls_left
            if count > left:
                raise BudgetExceededError(
                    f"{count} sub-LM call(s) asked for, {left} of {self.budget.max_llm_calls} left "
                    "(max_llm_calls). Ask fewer, put more into one prompt, or work with code.",
                    limit="max_llm_calls",
                )
            self._llm_calls += count

    def give_back_llm_calls(self, count: int) -> None:
        """Takes back calls that were booked and not sent."""
        with self._lock:
            self._llm_calls -= count

    # ---- Tokens, money, time ----

    def begin(self) -> None:
        """Begins to count the time anew: until now the run had no sandbox."""
        self.started_at = datetime.now(UTC)
        self._started = self._clock()

    @property
    def seconds(self) -> float:
        """Since the root run began."""
        return self._clock() - self._started

    def work_seconds_left(self) -> float:
        """What is left of the time for all but the last call of the root run; infinite without a limit."""
        if self.budget.max_seconds is None:
            return math.inf
        with self._lock:
            return self.budget.max_seconds - self.seconds - self._held().seconds

    def _held(self) -> Amount:
        """What is held back for the extraction of the root run: as much as its last turn took."""
        held = self._turns.get(0, Amount())
        least = (self.budget.max_seconds or 0) * HELD_BACK
        return dataclasses.replace(held, seconds=max(held.seconds, least))

    def reserve(self, model: str, input_tokens: int, *, depth: int, final: bool = False) -> int:
        """Sets aside what a call will probably take.

        Args:
            model: Whom it asks.
            input_tokens: About how long its prompt is.
            depth: Of the run that it is made for.
            final: The last call of a run, which what was held back is for; it is not refused.

        Returns:
            A ticket for `settle`.

        Raises:
            BudgetExceededError: It does not fit, or its price cannot be known. Nothing is set aside.
        """
        with self._lock:
            wanted = self._rates.setdefault(model, _Rates()).estimate(input_tokens)
            if not final:
                self._refuse_beyond(wanted, self._held())
            self._tickets += 1
            self._reserved[self._tickets] = wanted
            return self._tickets

    def settle(self, ticket: int, call: Call) -> None:
        """Books what the call really took, in place of what was set aside."""
        with self._lock:
            self._reserved.pop(ticket, None)
            self._calls.append(call)
            key = call.depth, call.model
            self._usage[key] = self._usage.get(key, Usage(call.model, call.depth)).plus(call)
            if call.kind == "action":
                self._turns[call.depth] = Amount(
                    (call.input_tokens or 0) + (call.output_tokens or 0),
                    call.cost or 0,
                    call.seconds,
                )
            if not call.cached:
                self._rates.setdefault(call.model, _Rates()).add(call)
                self._tokens += (call.input_tokens or 0) + (call.output_tokens or 0)
                self._cost += call.cost or 0.0
            if call.cost is None and not call.error:
                self._unpriced = call.model

    def exhausted(self, depth: int) -> str:
        """The name of the limit that allows no further turn of a run, or "".

        A turn needs what the last one took, and so does the extraction that may have to follow.
        """
        with self._lock:
            turn = self._turns.get(depth, Amount())
            try:
                self._refuse_beyond(turn, self._held())
            except BudgetExceededError as error:
                return "" if self._unpriced and error.limit == "max_cost" else error.limit
            return ""

    def _refuse_beyond(self, wanted: Amount, held: Amount) -> None:
        """Raises if what is wanted does not fit beside what is reserved and held back."""
        budget = self.budget
        reserved = self._reserved.values()
        tokens = self._tokens + sum(amount.tokens for amount in reserved)
        cost = self._cost + sum(amount.cost for amount in reserved)
        if budget.max_cost is not None and self._unpriced:
            raise BudgetExceededError(
                f"The price of {self._unpriced!r} is not known, so max_cost cannot be kept. Limit the "
                "run by max_tokens or max_llm_calls instead.",
                limit="max_cost",
            )
        for limit, unit, spent, need in (
            ("max_tokens", "tokens", tokens, wanted.tokens + held.tokens),
            ("max_cost", "US dollars", cost, wanted.cost + held.cost),
            ("max_seconds", "seconds", self.seconds, wanted.seconds + held.seconds),
        ):
            most = getattr(budget, limit)
            if most is not None and (spent >= most or spent + need > most):
                raise BudgetExceededError(
                    f"{_shown(max(most - spent, 0))} of {_shown(most)} {unit} left ({limit}), and about "
                    f"{_shown(need)} needed, the end of the run included. Ask less, or SUBMIT what "
                    "there is.",
                    limit=limit,
                )

    def left(self) -> dict[str, Any]:
        """What is left of the limits that are set, by what they count."""
        budget = self.budget
        with self._lock:
            left: dict[str, Any] = {"llm_calls": self.llm_calls_left}
            if budget.max_tokens is not None:
                left["tokens"] = max(budget.max_tokens - self._tokens, 0)
            if budget.max_cost is not None:
                left["cost"] = round(max(budget.max_cost - self._cost, 0.0), 6)
            if budget.max_seconds is not None:
                left["seconds"] = round(max(budget.max_seconds - self.seconds, 0.0), 1)
        return left

    # ---- The report ----

    def usage(self) -> tuple[Usage, ...]:
        """What was spent, by depth and model."""
        with self._lock:
            return tuple(self._usage[key] for key in sorted(self._usage))

    def cost(self) -> float | None:
        """US dollars in all; None if the price of a call is unknown."""
        total: float | None = 0.0
        for usage in self.usage():
            total = _sum(total, usage.cost)
        return total

    def sub_calls(self) -> tuple[Call, ...]:
        """The calls that code has caused, in the order of their ends."""
        with self._lock:
            return tuple(call for call in self._calls if call.is_sub_call)


def left_text(left: Mapping[str, Any]) -> str:
    """What is left of a budget, in words: `4 sub-LM prompts left, 12,000 tokens, $0.25, 81 s`."""
    words = [f"{left['llm_calls']} sub-LM prompts left"]
    words += [f"{left['tokens']:,} tokens left"] if "tokens" in left else []
    words += [f"${left['cost']:.4g} left"] if "cost" in left else []
    words += [f"{left['seconds']:.0f} s left"] if "seconds" in left else []
    return ", ".join(words)


def _sum(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.4g}"
