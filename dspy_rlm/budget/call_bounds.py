"""Upper bounds of calls in tokens and dollars, tightened by what the run's earlier calls took.

A price is the user's or the table's where there is one, else it is learned: see `prices.Seen`.
"""

from __future__ import annotations

import dataclasses

from dspy_rlm.budget.admission import Amount, CallPlan
from dspy_rlm.budget.prices import Seen
from dspy_rlm.budget.token_bounds import Counted
from dspy_rlm.reports.report import Call


@dataclasses.dataclass(frozen=True)
class PromptBound:
    """The upper bound of a call's prompt."""

    tokens: int = 0
    """Tokens of one prompt."""

    input_tokens: int = 0
    """Tokens of the prompts of all candidates."""

    is_priced: bool = True
    """False if nothing bounds the cost of the call."""


class CallBounds:
    """The upper bounds of calls, by model and kind of call. The owner locks it."""

    def __init__(self, *, in_dollars: bool) -> None:
        """With `in_dollars`, calls need a bound of their cost too."""
        self._in_dollars = in_dollars
        self._counted = Counted()
        self._seen: dict[str, Seen] = {}
        # By model: the highest ratio of a call's cost to its price in the table.
        self._dearer: dict[str, float] = {}

    def trust(self, text: str) -> None:
        """Adds text of prompts that comes from us or the program's author; see `Counted.trust`."""
        self._counted.trust(text)

    def prompt(self, plan: CallPlan) -> PromptBound:
        """Returns the bound of a call's prompt."""
        tokens = self._counted.bound(plan.model, plan.counted_as, plan.prompt)
        if plan.longest_prompt is not None:
            tokens = min(tokens, plan.longest_prompt)  # a longer one is refused, at no cost
        is_priced = (
            not self._in_dollars or plan.price(tokens) is not None or plan.model in self._seen
        )
        return PromptBound(tokens, tokens * plan.candidates, is_priced)

    def most(self, plan: CallPlan, prompt: PromptBound, reply_tokens: int) -> Amount:
        """Returns the upper bound of a call with replies of at most this many tokens; cost only with a price."""
        replies, cost = reply_tokens * plan.candidates, 0.0
        if self._in_dollars and prompt.is_priced:
            price = plan.price(prompt.tokens)
            if price is not None:
                cost = price.of(prompt.input_tokens, replies) * self._dearer.get(plan.model, 1.0)
            elif plan.model in self._seen:
                cost = self._seen[plan.model].bound(prompt.input_tokens, replies)
        return Amount(prompt.input_tokens + replies, cost)

    def extraction_cost(self, plan: CallPlan, prompt_tokens: float, reply_tokens: int) -> float:
        """Returns the likely most that the extraction costs after this turn; 0 without a price."""
        price = plan.price(int(prompt_tokens))
        if price is not None:
            # The tokens for the reply are priced at the higher of the two rates.
            return prompt_tokens * price.input + reply_tokens * max(price.input, price.output)
        if plan.model in self._seen:
            return self._seen[plan.model].bound(int(prompt_tokens) + reply_tokens, reply_tokens)
        return 0.0

    def usual_reply(self, plan: CallPlan, prompt: PromptBound) -> int | None:
        """Returns the longest reply so far, if the price is learned from replies; else None."""
        seen = self._price_learned_from(plan, prompt)
        return seen.longest_reply if seen else None

    def usual_cost(self, plan: CallPlan, prompt: PromptBound) -> float | None:
        """Returns the usual cost of such calls, if the price is learned from them; else None."""
        seen = self._price_learned_from(plan, prompt)
        return seen.usual_cost(prompt.tokens) if seen else None

    def _price_learned_from(self, plan: CallPlan, prompt: PromptBound) -> Seen | None:
        if not self._in_dollars or plan.price(prompt.tokens) is not None:
            return None
        return self._seen.get(plan.model)

    def learn(self, plan: CallPlan, prompt: PromptBound, call: Call, *, discounted: bool) -> None:
        """Tightens the bounds of later calls by what an answered one took. `discounted`: see `Spent`."""
        if call.input_tokens is None:
            return
        if plan.candidates == 1:
            self._counted.learn(
                plan.model, plan.counted_as, plan.prompt, prompt.tokens, call.input_tokens
            )
        if call.cost is None or call.output_tokens is None:
            return
        # Without tokens of one kind, the cost says nothing about its price.
        if call.input_tokens and call.output_tokens and not discounted:
            seen = self._seen.setdefault(plan.model, Seen())
            seen.add(call.input_tokens, call.output_tokens, call.cost, prompt.tokens)
        price = plan.price(call.input_tokens)
        expected = price.of(call.input_tokens, call.output_tokens) if price else 0.0
        if expected and call.cost > expected * self._dearer.get(plan.model, 1.0):
            self._dearer[plan.model] = call.cost / expected
