"""The recommendation: which system to use at which length, in words, and no more than the items show. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dspy_rlm.comparing.intervals import Interval
from dspy_rlm.comparing.statistics import Bin, Summary
from dspy_rlm.reports.text import count, dollars

# With fewer items even a large difference may be chance.
LEAST_ITEMS = 20

# A system is as good as the best one if with 95 % confidence it is worse by no more than this.
MARGIN = 0.05

Verdict = Literal["use", "undecided", "too few"]


@dataclass(frozen=True)
class Advice:
    """The recommendation for inputs between two lengths."""

    low: int
    high: int | None
    items: int
    verdict: Verdict
    system: str
    """The system to use; for `undecided` the one with the best score, empty for `too few`."""

    text: str
    """One or two sentences, with the figures."""


def advise(bins: Sequence[Bin], margin: float = MARGIN) -> tuple[Advice, ...]:
    """Returns the advice for each bin."""
    return tuple(_advice(one, margin) for one in bins)


def _advice(found: Bin, margin: float) -> Advice:
    where = range_text(found.low, found.high)
    if found.items < LEAST_ITEMS:
        text = (
            f"{where}: no recommendation. {count(found.items, 'item')} cannot show which system is better; "
            f"{LEAST_ITEMS} are the least."
        )
        return Advice(found.low, found.high, found.items, "too few", "", text)
    best = max(found.systems, key=lambda one: one.score.mean)
    if best.score.mean <= 0:
        text = f"{where} ({count(found.items, 'item')}): no system has an answer right."
        return Advice(found.low, found.high, found.items, "undecided", best.system, text)
    good = [one for one in found.systems if one is best or _is_as_good(found, one, best, margin)]
    open_ = [
        one
        for one in found.systems
        if one not in good and not found.differences[best.system, one.system].low > 0
    ]
    chosen = min(good, key=_price_of(good))
    head = f"{where} ({count(found.items, 'item')})"
    if chosen is not best:
        text = f"{head}: use {chosen.system}. {_as_good(found, chosen, best)}"
        return Advice(found.low, found.high, found.items, "use", chosen.system, text)
    # A system that may be as good matters only if it is cheaper.
    price = _price_of([best, *open_])
    cheaper = [one for one in open_ if price(one) < price(best)]
    dearer = [one for one in open_ if price(one) >= price(best)]
    if cheaper:
        text = f"{head}: not decided. " + " ".join(
            _not_decided(found, one, best, margin) for one in cheaper
        )
        return Advice(found.low, found.high, found.items, "undecided", best.system, text)
    worse = [one for one in found.systems if one is not best and one not in dearer]
    sentences = [_better(found, best, one) for one in worse if one not in good]
    sentences += [_saves(best, one) for one in [*good, *dearer] if one is not best]
    text = f"{head}: use {best.system}. {' '.join(sentences)}".rstrip()
    return Advice(found.low, found.high, found.items, "use", best.system, text)


def _is_as_good(found: Bin, one: Summary, best: Summary, margin: float) -> bool:
    return found.differences[best.system, one.system].high <= margin


def _price_of(systems: Sequence[Summary]):  # type: ignore[no-untyped-def]
    """Returns the function by which systems are cheap: dollars; without prices tokens; without those seconds."""
    if all(one.cost is not None and one.cost.total > 0 for one in systems):
        return lambda one: one.cost.total
    if all(one.tokens is not None and one.tokens.total > 0 for one in systems):
        return lambda one: one.tokens.total
    return lambda one: one.seconds.total


def _as_good(found: Bin, chosen: Summary, best: Summary) -> str:
    gap = found.differences[chosen.system, best.system]
    return (
        f"It is as good as {best.system} (score {score_text(chosen.score)} against {score_text(best.score)}, "
        f"difference {interval_text(gap)}){_and_cheaper(chosen, best)}."
    )


def _better(found: Bin, best: Summary, other: Summary) -> str:
    gap = found.differences[best.system, other.system]
    return (
        f"Its score is {score_text(best.score)} against {score_text(other.score)} of {other.system}: "
        f"difference {interval_text(gap)}{_but_dearer(best, other)}."
    )


def _saves(best: Summary, other: Summary) -> str:
    return (
        f"{other.system} is not better (score {score_text(other.score)}){_but_dearer(other, best)}."
    )


def _not_decided(found: Bin, one: Summary, best: Summary, margin: float) -> str:
    gap = found.differences[best.system, one.system]
    return (
        f"{best.system} has a score of {score_text(best.score)}, {one.system} of {score_text(one.score)}, and the interval "
        f"of the difference is {bounds_text(gap)}{_and_cheaper(one, best, ' while ' + one.system)}. "
        f"About {needed(gap, found.items, margin):,} items would decide it."
    )


def needed(gap: Interval, items: int, margin: float) -> int:
    """Returns the items with which an interval would exclude 0, or would lie within the margin.

    The width of an interval shrinks with the square root of the items.
    """
    half = (gap.high - gap.low) / 2
    distance = max(abs(gap.mean), abs(margin - gap.mean), margin / 2)
    return max(items + 1, math.ceil(items * (half / distance) ** 2 / 10) * 10)


def _ratio(one: Summary, other: Summary) -> tuple[float, str] | None:
    """Returns how many times as much the second takes as the first, and of what."""
    for mine, others, unit in (
        (one.cost, other.cost, "cost"),
        (one.tokens, other.tokens, "tokens"),
    ):
        if mine is not None and others is not None and mine.total > 0 and others.total > 0:
            return others.total / mine.total, unit
    return None


def _and_cheaper(one: Summary, other: Summary, joint: str = " and") -> str:
    ratio = _ratio(one, other)
    if ratio is None or ratio[0] < 1.05:
        return ""
    return f"{joint} {'is' if ratio[1] == 'cost' else 'takes'} {_times(*ratio)}"


def _times(ratio: float, unit: str) -> str:
    if unit == "cost":
        return f"{_factor(ratio)} times cheaper"
    return f"{_factor(ratio)} times fewer tokens"


def _but_dearer(one: Summary, other: Summary) -> str:
    ratio = _ratio(other, one)
    if ratio is None:
        return ""
    times, unit = ratio
    takes = "costs" if unit == "cost" else "takes"
    noun = "as much" if unit == "cost" else "as many tokens"
    if 0.95 < times < 1.05:
        return f"; it {takes} {noun}"
    if times < 1:
        return f"; it {'is' if unit == 'cost' else takes} {_times(1 / times, unit)}"
    return f"; it {takes} {_factor(times)} times {noun}"


def _factor(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def score_text(score: Interval) -> str:
    """Returns a mean score: `0.94`."""
    return f"{score.mean:.2f}"


def interval_text(gap: Interval) -> str:
    """Returns a difference with its interval: `+0.12 [+0.04, +0.20]`."""
    return f"{gap.mean:+.2f} {bounds_text(gap)}"


def bounds_text(gap: Interval) -> str:
    """Returns the bounds of a difference: `[+0.04, +0.20]`."""
    return f"[{gap.low:+.2f}, {gap.high:+.2f}]"


def range_text(low: int, high: int | None) -> str:
    """Returns a range of lengths: `Below 30k tokens`, `From 30k to 130k tokens`, `From 2M tokens`."""
    if not low:
        return "At any length" if high is None else f"Below {tokens_text(high)} tokens"
    if high is None:
        return f"From {tokens_text(low)} tokens"
    return f"From {tokens_text(low)} to {tokens_text(high)} tokens"


def tokens_text(tokens: float) -> str:
    """Returns a number of tokens: `850`, `30k`, `1.5M`."""
    for bound, unit in ((1_000_000, "M"), (1_000, "k")):
        if tokens >= bound:
            return f"{tokens / bound:.3g}{unit}"
    return f"{tokens:.0f}"


def cost_text(cost: float | None) -> str:
    """Returns an amount of dollars, or that it is unknown."""
    return "unknown" if cost is None else dollars(cost)
