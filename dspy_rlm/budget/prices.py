"""The price of a model, before a call: from DSPy's table, or from the cost of its calls so far.

DSPy computes the cost of a call from the same table. For each kind of token, the highest rate that a call can
incur is used, so that a cost computed from these prices is an upper bound.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.budget.budget import Price

# The number of latest calls of a model that its price is learned from.
LEARNED_FROM = 32

_INPUT_RATES = re.compile(
    r"(?:input_cost_per_token|cache_read_input_token_cost|cache_creation_input_token_cost"
    r"|input_cost_per_audio_token)(?P<rest>.*)"
)
_OUTPUT_RATES = re.compile(r"(?:output_cost_per_token|output_cost_per_reasoning_token)(?P<rest>.*)")
_THRESHOLD = re.compile(r"_above_(\d+)k_tokens")
_TIERS = ("priority", "flex")


@dataclasses.dataclass(frozen=True)
class Model:
    """The entry of a model in DSPy's table."""

    rates: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    fallbacks: tuple[Model, ...] = ()
    """The models that LiteLLM asks if this one fails: the call may have their price, and their lengths."""

    @property
    def longest_reply(self) -> int | None:
        """The most tokens of a reply."""
        return self._longest("max_output_tokens")

    @property
    def longest_prompt(self) -> int | None:
        """The most tokens of a prompt."""
        return self._longest("max_input_tokens")

    def _longest(self, name: str) -> int | None:
        counts = [_count(one.rates.get(name)) for one in (self, *self.fallbacks)]
        known = [count for count in counts if count is not None]
        return max(known) if len(known) == len(counts) else None

    def price(self, input_tokens: int, options: Mapping[str, Any]) -> Price | None:
        """Returns the highest price of a call with a prompt of at most this many tokens; None if unknown."""
        prices = [self._price(input_tokens, options)]
        prices += [one.price(input_tokens, options) for one in self.fallbacks]
        known = [price for price in prices if price is not None]
        if len(known) < len(prices):
            return None
        return Price(max(price.input for price in known), max(price.output for price in known))

    def _price(self, input_tokens: int, options: Mapping[str, Any]) -> Price | None:
        tier = str(options.get("service_tier") or "")
        long_cache = options.get("prompt_cache") is not None
        rates = self._highest(_INPUT_RATES, input_tokens, tier, long_cache=long_cache)
        replies = self._highest(_OUTPUT_RATES, input_tokens, tier, long_cache=long_cache)
        known = "input_cost_per_token" in self.rates and "output_cost_per_token" in self.rates
        return Price(rates, replies) if known else None

    def _highest(
        self, kind: re.Pattern[str], input_tokens: int, tier: str, *, long_cache: bool
    ) -> float:
        highest = 0.0
        for name, rate in self.rates.items():
            match = kind.fullmatch(name)
            if match is None or not _is_rate(rate):
                continue
            rest = match["rest"]
            threshold = _THRESHOLD.search(rest)
            if threshold and input_tokens <= int(threshold[1]) * 1000:
                continue
            if any(rest.endswith(f"_{name}") and tier != name for name in _TIERS):
                continue
            if rest.endswith("_batches") or ("above_1hr" in rest and not long_cache):
                continue
            highest = max(highest, float(rate))
        return highest


def described(lm: dspy.BaseLM) -> Model:
    """Returns the table's entry for an LM's model. The first call may download the table, which takes seconds.

    Empty for an LM with an engine of its own: DSPy computes no cost for its calls either.
    """
    if not isinstance(lm, dspy.LM) or not isinstance(lm.engine, str):
        return Model()
    from dspy_rlm.dspy_internals.model_table import resolve, table_entry

    try:
        route = resolve(lm)
        provider, name = route.provider, route.model
    except Exception:  # noqa: BLE001 - no route of DSPy's own: LiteLLM reads the name itself
        provider, _, name = lm.model.rpartition("/")
    rates = table_entry(provider, name) or table_entry(lm.model.partition("/")[0], name)
    fallbacks = lm.kwargs.get("fallbacks")
    return Model(rates, tuple(map(_fallback, fallbacks if isinstance(fallbacks, list) else ())))


def _fallback(named: Any) -> Model:
    """Returns the entry of a model in LiteLLM's option `fallbacks`: a name, or a dict of options with one."""
    from dspy_rlm.dspy_internals.model_table import table_entry

    full = str(named.get("model", "") if isinstance(named, Mapping) else named)
    provider, _, name = full.rpartition("/")
    return Model(table_entry(provider or "openai", name))


def _is_rate(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


class Seen:
    """The calls of a model with their cost, which bounds that of the next one. The owner locks it.

    A call with cost c, i tokens in and o tokens out bounds the two prices by c/i and c/o, which they cannot
    both reach. So a call with I and O tokens costs at most c * max(I/i, O/o), whatever the prices are.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[int, int, float]] = deque(maxlen=LEARNED_FROM)
        self._rates: deque[tuple[int, float]] = deque(maxlen=LEARNED_FROM)
        self.longest_reply = 0

    def add(
        self, input_tokens: int, output_tokens: int, cost: float, prompt_bound: int = 0
    ) -> None:
        """Adds a call that had tokens of both kinds, with the bound of its prompt."""
        self._calls.append((input_tokens, output_tokens, cost))
        self._rates.append((max(prompt_bound, input_tokens), cost))
        self.longest_reply = max(self.longest_reply, output_tokens)

    def usual_cost(self, prompt_bound: int) -> float:
        """Returns the cost of a call with this bound of its prompt, if it is like the most expensive so far."""
        return max(cost * max(prompt_bound / seen, 1.0) for seen, cost in self._rates)

    def bound(self, input_tokens: int, output_tokens: int) -> float:
        """Returns the upper bound of the cost of a call with at most this many tokens."""
        return min(
            cost * max(input_tokens / seen_in, output_tokens / seen_out)
            for seen_in, seen_out, cost in self._calls
        )
