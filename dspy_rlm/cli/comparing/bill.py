"""The expected bill of a comparison, before anything is sent. A guess from stated assumptions; `--max-cost` is the bound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from dspy_rlm.budget.budget import Price
from dspy_rlm.reports.report import added
from dspy_rlm.reports.text import dollars

# Tokens of a reply of a direct call, and of a prompt without its inputs.
REPLY, FRAME = 500, 500

# An RLM: turns of the root LM, tokens of a prompt of each (the instructions and the steps so far) and of its reply. The paper's
# runs (https://arxiv.org/abs/2512.24601) have a few turns at the median and many more at the 95th percentile.
TURNS, TURN_PROMPT, TURN_REPLY = 8, 5_000, 600

# The part of the inputs that an RLM's sub-calls read, and the tokens of one of these calls.
READ_BY_SUB_CALLS, SUB_CALL = 1.0, 8_000

# Tokens that retrieval reads, and tokens of a part that compaction reads.
RETRIEVED, PART = 8_000, 8_000


@dataclasses.dataclass(frozen=True)
class Expected:
    """The tokens that one system is expected to take, by model."""

    root_in: float = 0.0
    root_out: float = 0.0
    sub_in: float = 0.0
    sub_out: float = 0.0

    def plus(self, other: Expected) -> Expected:
        """Returns the sum."""
        return Expected(
            *(
                a + b
                for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
            )
        )


def expected(system: str, lengths: Iterable[int]) -> Expected | None:
    """Returns what a ready-made system is expected to take on items of these lengths; None for another one."""
    total = Expected()
    for length in lengths:
        one = _on_item(system, length)
        if one is None:
            return None
        total = total.plus(one)
    return total


def _on_item(system: str, length: int) -> Expected | None:
    if system in ("direct", "chain-of-thought"):
        return Expected(length + FRAME, REPLY)
    if system == "retrieval":
        return Expected(min(length, RETRIEVED) + FRAME, REPLY)
    if system == "compaction":
        parts = math.ceil(length / PART)
        return Expected(length + parts * (FRAME + REPLY) + FRAME, (parts + 1) * REPLY)
    if system in ("rlm", "dspy.RLM"):
        read = length * READ_BY_SUB_CALLS
        return Expected(
            TURNS * TURN_PROMPT, TURNS * TURN_REPLY, read, math.ceil(read / SUB_CALL) * REPLY
        )
    return None


def cost_of(tokens: Expected, root: Price | None, sub: Price | None) -> float | None:
    """Returns US dollars; None if a price that is needed is unknown."""
    cost = 0.0
    for price, sent, received in (
        (root, tokens.root_in, tokens.root_out),
        (sub, tokens.sub_in, tokens.sub_out),
    ):
        if not sent:
            continue
        if price is None:
            return None
        cost += price.of(round(sent), round(received))
    return cost


def bill_text(
    systems: Sequence[str],
    lengths: Sequence[int],
    root: Price | None,
    sub: Price | None,
    max_cost: float | None,
) -> str:
    """Returns the expected bill: a line for each system, the sum, and the limit."""
    lines: list[str] = []
    total: float | None = 0.0
    for name in systems:
        tokens = expected(name, lengths)
        cost = None if tokens is None else cost_of(tokens, root, sub)
        if tokens is None:
            lines.append(f"  {name}: unknown, as it is a system of your own")
        else:
            amount = tokens.root_in + tokens.root_out + tokens.sub_in + tokens.sub_out
            price = "price unknown" if cost is None else f"about {dollars(cost)}"
            lines.append(f"  {name}: about {amount:,.0f} tokens, {price}")
        total = added(total, cost)
    count = len(lengths)
    lines.insert(0, f"Expected bill for {count:,} item{'' if count == 1 else 's'} a system:")
    lines.append(f"  sum: {'unknown' if total is None else f'about {dollars(total)}'}")
    lines.append(
        "  at most: nothing limits it; --max-cost would"
        if max_cost is None
        else f"  at most: about {dollars(max_cost)} (--max-cost): no run begins that is likely to exceed it"
    )
    lines.append(
        f"  (an RLM is assumed to take {TURNS} turns and to read its inputs once through sub-calls; real runs differ)"
    )
    return "\n".join(lines)
