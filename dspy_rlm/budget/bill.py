"""The most that a run can take: LM calls, tokens and dollars, from its budgets. No I/O.

A sum of upper bounds. A turn's prompt is the first one and all that the turns before could add: their replies, and
`max_output_chars` of each output. It is never longer than the context window. A character is counted as four tokens at
most: a token covers a byte or more, and UTF-8 has up to four bytes for a character.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_rlm.budget.budget import Budget, Price

# Requests of the extraction: the first, and two more if a reply cannot be read.
EXTRACTIONS = 3

TOKENS_A_CHAR = 4

# Tokens of the harness's notes in a turn, at most.
TOKENS_OF_NOTES = 1_000


@dataclasses.dataclass(frozen=True)
class LMFacts:
    """The bounds of the calls of an LM. None: unknown."""

    model: str
    window: int | None = None
    reply: int | None = None
    """Tokens of a reply at most."""

    price: Price | None = None


@dataclasses.dataclass(frozen=True)
class Bill:
    """The most that a run can take. Requests that fail and are sent again are not in it."""

    root_calls: int
    sub_calls: int
    tokens: int | None
    """None: nothing bounds them."""

    cost: float | None
    """US dollars; None: nothing bounds them."""

    bounded_by: str = ""
    """The limit that bounds the dollars: `max_cost`, `max_tokens` or `calls`; empty if there is none."""

    unknown: tuple[str, ...] = ()
    """The facts that are missing for a bound."""

    def dump(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        return dataclasses.asdict(self)


def worst_case(
    budget: Budget, root: LMFacts, subs: Sequence[LMFacts], first_prompt: int, output_chars: int
) -> Bill:
    """Returns the most that a run can take.

    Args:
        budget: The limits of the run.
        root: The LM that writes the code.
        subs: The LMs that the code can call.
        first_prompt: The tokens of the first prompt, at most.
        output_chars: The characters of an output that the root LM sees.
    """
    root_calls = budget.max_iterations + EXTRACTIONS
    sub_calls = budget.max_llm_calls
    unknown = _unknown(root, [root] if budget.max_depth and sub_calls else [], subs, sub_calls)
    prompts = _root_prompts(root, root_calls, first_prompt, output_chars)
    tokens: int | None = None
    cost: float | None = None
    # A sub-run is played by the LM of the root.
    called = [root, *subs] if sub_calls else []
    if prompts is not None and root.reply is not None and all(map(_is_bounded, called[1:])):
        largest = [(one.window or sum(prompts), one.reply or 0) for one in called]
        tokens = sum(prompts) + root_calls * root.reply
        tokens += sub_calls * max((sum(pair) for pair in largest), default=0)
        if all(one.price for one in (root, *called)):
            cost = _cost(root, sum(prompts), root_calls * root.reply)
            dearest = [_cost(one, *pair) for one, pair in zip(called, largest, strict=True)]
            cost += sub_calls * max(dearest, default=0.0)
    bounded_by = "calls" if cost is not None else ""
    if budget.max_tokens is not None and (tokens is None or budget.max_tokens < tokens):
        tokens = budget.max_tokens
        rates = [max(one.price.input, one.price.output) for one in (root, *called) if one.price]
        if len(rates) == 1 + len(called):
            most = tokens * max(rates)
            if cost is None or most < cost:
                cost, bounded_by = most, "max_tokens"
    if budget.max_cost is not None and (cost is None or budget.max_cost < cost):
        cost, bounded_by = budget.max_cost, "max_cost"
    missing = unknown if tokens is None or cost is None else ()
    return Bill(root_calls, sub_calls, tokens, cost, bounded_by, missing)


def _is_bounded(lm: LMFacts) -> bool:
    return lm.window is not None and lm.reply is not None


def _cost(lm: LMFacts, prompt: int, reply: int) -> float:
    return lm.price.of(prompt, reply) if lm.price else 0.0


def _root_prompts(
    root: LMFacts, calls: int, first_prompt: int, output_chars: int
) -> list[int] | None:
    """Returns the tokens of the root's prompts at most, call by call; None if nothing bounds them."""
    if root.reply is None:
        return None if root.window is None else [root.window] * calls
    a_turn = root.reply + output_chars * TOKENS_A_CHAR + TOKENS_OF_NOTES
    prompts = [first_prompt + turn * a_turn for turn in range(calls)]
    return [min(tokens, root.window or tokens) for tokens in prompts]


def _unknown(
    root: LMFacts, below: Sequence[LMFacts], subs: Sequence[LMFacts], sub_calls: int
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for one in (root, *(subs if sub_calls else ())):
        if one.reply is None:
            found[f"the longest reply of {one.model}"] = None
        if one.window is None and (one is not root or below):
            found[f"the context window of {one.model}"] = None
        if one.price is None:
            found[f"the price of {one.model}"] = None
    return tuple(found)


def bill_text(bill: Bill, dollars: Mapping[str, Any] | None = None) -> str:
    """Returns the bill in words."""
    from dspy_rlm.reports.text import dollars as in_dollars

    tokens = "unknown" if bill.tokens is None else f"{bill.tokens:,}"
    cost = "unknown" if bill.cost is None else in_dollars(bill.cost)
    by = f" (by {bill.bounded_by})" if bill.bounded_by in ("max_cost", "max_tokens") else ""
    lines = [
        f"LM calls: {bill.root_calls} of the root (with the extraction), {bill.sub_calls} of the code",
        f"tokens:   {tokens}",
        f"cost:     {cost}{by}",
    ]
    if bill.unknown:
        lines.append(
            f"Not known: {', '.join(bill.unknown)}. --max-tokens and --max-cost bound a run all the same."
        )
    return "\n".join(lines)
