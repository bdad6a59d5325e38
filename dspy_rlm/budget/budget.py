"""The limits of a run, validated, and the rest of them in words. `ledger.py` counts what is spent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dspy_rlm.errors import SignatureError
from dspy_rlm.reports.text import dollars

# The limits that are integers, with the least value of each.
_COUNTS = {
    "max_iterations": 1,
    "max_llm_calls": 0,
    "max_depth": 0,
    "max_tokens": 1,
    "max_errors": 1,
}
_AMOUNTS = ("max_cost", "max_seconds")

_LEFT_OUT = ("max_tokens", "max_errors", *_AMOUNTS)

# Users give prices in the unit of the providers' price lists.
_PRICED_TOKENS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Price:
    """US dollars per token: the highest that a token of a prompt and of a reply can cost."""

    input: float
    output: float

    @property
    def is_free(self) -> bool:
        """True if no token costs anything."""
        return self.input == self.output == 0

    def of(self, input_tokens: float, output_tokens: float) -> float:
        """The cost of a call with these tokens."""
        return input_tokens * self.input + output_tokens * self.output


@dataclasses.dataclass(frozen=True)
class Budget:
    """The limits of one run and its sub-runs together. None means no limit.

    Raises:
        SignatureError: A limit is not a number in its range, or a price cannot be read.
    """

    max_iterations: int = 20
    """Turns of the root LM, at least 1. After the last one, the outputs are extracted."""

    max_llm_calls: int = 50
    """LM calls that the run's code may cause. 0 allows none."""

    max_depth: int = 1
    """Levels of runs below the root. 0: no `sub_rlm`."""

    max_cost: float | None = None
    """US dollars for all LMs together."""

    max_tokens: int | None = None
    """Tokens of prompts and replies of all LMs together."""

    max_seconds: float | None = None
    """Wall time, from when the run has its sandbox. Running cells and calls are cancelled early enough for
    the outputs to be extracted."""

    max_errors: int | None = None
    """Consecutive turns that may fail."""

    prices: Mapping[str, tuple[float, float]] | None = dataclasses.field(default=None, hash=False)
    """US dollars per million tokens of prompts and of replies, by model. They replace those of DSPy's
    table."""

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
            if value is not None and not (_is_amount(value) and value > 0):
                raise SignatureError(f"{name} must be a positive number, not {value!r}.")
        if self.prices is not None:
            object.__setattr__(self, "prices", _checked_prices(self.prices))

    @property
    def is_metered(self) -> bool:
        """True if tokens or dollars are limited, so that each call needs a bound before it is sent."""
        return self.max_tokens is not None or self.max_cost is not None

    def price(self, model: str) -> Price | None:
        """Returns the user's price for a model, by its full name or without its provider."""
        prices = self.prices or {}
        pair = prices.get(model) or prices.get(model.partition("/")[2])
        return pair and Price(pair[0] / _PRICED_TOKENS, pair[1] / _PRICED_TOKENS)


def _is_amount(value: Any) -> bool:
    """Returns true for a finite number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value) and value >= 0
    except OverflowError:  # an integer too large for a float
        return False


def _checked_prices(prices: Any) -> dict[str, tuple[float, float]]:
    if not isinstance(prices, Mapping):
        raise SignatureError(f"prices must be a dict by the names of models, not {prices!r}.")
    for model, price in prices.items():
        pair = isinstance(price, (tuple, list)) and len(price) == 2
        if not isinstance(model, str) or not pair or not all(map(_is_amount, price)):
            raise SignatureError(
                f"prices[{model!r}] must be two numbers, 0 or more: the US dollars for a million tokens of "
                f"prompts and of replies, such as (0.15, 0.6), not {price!r}."
            )
    return {model: (float(price[0]), float(price[1])) for model, price in prices.items()}


# Below this share a limit is little, and its rest is shown exactly. Above it, tokens and dollars are shown in
# tenths and seconds not at all: a prompt that changes with every millisecond is never in a cache.
LITTLE = 0.1
LITTLE_TIME = 0.25


def left_text(left: Mapping[str, Any], budget: Budget, prompts_note: str = "") -> str:
    """Returns the rest of a budget in words: `4 sub-LM prompts, 70% of 100,000 tokens left`."""
    calls = left["llm_calls"]
    words = [f"{calls} sub-LM prompt{'' if calls == 1 else 's'}"]
    if budget.max_tokens is not None:
        tokens = left["tokens"]
        coarse = _tenths(tokens / budget.max_tokens, f"{budget.max_tokens:,} tokens")
        words.append(coarse or f"{tokens:,} tokens")
    if budget.max_cost is not None:
        cost = left["cost"]
        coarse = _tenths(cost / budget.max_cost, dollars(budget.max_cost))
        words.append(coarse or dollars(cost))
    if budget.max_seconds is not None and left["seconds"] < LITTLE_TIME * budget.max_seconds:
        words.append(f"{left['seconds']:.0f} s")
    return f"{', '.join(words)} left{prompts_note}"


def _tenths(share: float, whole: str) -> str:
    """Returns the rest of a limit in tenths; empty if it is little."""
    # The small number makes up for the rounding of a quotient such as 0.3 / 0.1.
    return f"{int(10 * share + 1e-9) * 10}% of {whole}" if share >= LITTLE else ""
