"""Sums of rows: for each system over all items, and in bins of lengths; differences between systems in pairs. No I/O."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dspy_rlm.comparing.intervals import LEVEL, Interval, wilson
from dspy_rlm.comparing.rows import Row

# Fewer resamples than in `intervals`: each draws for all systems at once, and there are as many as bins.
RESAMPLES = 4_000

# Bounds of the bins, in tokens.
EDGES = (2_000, 8_000, 30_000, 130_000, 500_000, 2_000_000)

QUANTILES = (0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Quantiles:
    """The distribution of an amount over the rows of a system."""

    median: float
    p90: float
    most: float
    total: float


@dataclass(frozen=True)
class Summary:
    """A system over some items."""

    system: str
    items: int
    score: Interval
    cost: Quantiles | None
    """US dollars; None if the price of a row is unknown."""

    tokens: Quantiles | None
    """None if a row does not know its tokens."""

    seconds: Quantiles
    calls: Quantiles
    turns: Quantiles | None
    sub_calls: Quantiles | None
    failures: Mapping[str, int]
    endings: Mapping[str, int]
    cached: int
    """LM calls that a cache answered: what they would have cost is not in the costs, nor in the seconds."""


@dataclass(frozen=True)
class Bin:
    """The items between two lengths, and the systems on them."""

    low: int
    high: int | None
    """Tokens, exclusive; None for no bound."""

    items: int
    """Those that all systems have a row for."""

    systems: tuple[Summary, ...]
    differences: Mapping[tuple[str, str], Interval] = field(default_factory=dict)
    """Of the scores, the first system's less the second's, by pairs."""


def paired(rows: Sequence[Row], systems: Sequence[str]) -> list[dict[str, Row]]:
    """Returns the items that all systems have a row for, with the rows by system, in the order of the items."""
    by_item: dict[str, dict[str, Row]] = {}
    for row in sorted(rows, key=lambda one: one.number):
        by_item.setdefault(row.item, {})[row.system] = row
    return [found for found in by_item.values() if all(name in found for name in systems)]


def binned(
    pairs: Sequence[Mapping[str, Row]], systems: Sequence[str], seed: int = 0
) -> tuple[Bin, ...]:
    """Returns the bins that have items."""
    found: dict[int, list[Mapping[str, Row]]] = {}
    for pair in pairs:
        length = pair[systems[0]].length
        found.setdefault(sum(length >= edge for edge in EDGES), []).append(pair)
    return tuple(
        bin_of(
            found[index],
            systems,
            low=EDGES[index - 1] if index else 0,
            high=EDGES[index] if index < len(EDGES) else None,
            seed=seed,
        )
        for index in sorted(found)
    )


def bin_of(
    pairs: Sequence[Mapping[str, Row]],
    systems: Sequence[str],
    *,
    low: int = 0,
    high: int | None = None,
    seed: int = 0,
) -> Bin:
    """Returns the systems on some items, and the differences of each two."""
    scores = {name: [pair[name].score for pair in pairs] for name in systems}
    means = resampled_means(scores, seed)
    summaries = tuple(
        summary_of(name, [pair[name] for pair in pairs], means[name]) for name in systems
    )
    differences = {
        (one, other): difference(scores[one], scores[other], means[one], means[other])
        for one in systems
        for other in systems
        if one != other
    }
    return Bin(low, high, len(pairs), summaries, differences)


def resampled_means(scores: Mapping[str, Sequence[float]], seed: int = 0) -> dict[str, list[float]]:
    """Returns the means of resampled items, the same items for all systems."""
    count = len(next(iter(scores.values()), ()))
    means: dict[str, list[float]] = {name: [] for name in scores}
    if not count:
        return means
    rng = random.Random(seed)  # noqa: S311 - no secret
    indices = range(count)
    for _ in range(RESAMPLES):
        drawn = rng.choices(indices, k=count)
        for name, of_system in scores.items():
            means[name].append(sum(map(of_system.__getitem__, drawn)) / count)
    return means


def difference(
    one: Sequence[float], other: Sequence[float], means: Sequence[float], others: Sequence[float]
) -> Interval:
    """Returns the mean difference of two systems' scores with its interval.

    A bootstrap knows only the differences that it has seen. Where all items have the same one, its interval has no width,
    however few they are; so at least the range of another difference is added that the items cannot exclude: with
    probability 0.95, `n` equal outcomes leave less than `1 - 0.05 ** (1 / n)` for any other, the "rule of three".
    """
    count = len(one)
    differences = [a - b for a, b in zip(one, other, strict=True)]
    mean = sum(differences) / count if count else 0.0
    if not count:
        return Interval(0.0, -1.0, 1.0)
    ordered = sorted(a - b for a, b in zip(means, others, strict=True))
    tail = round((1 - LEVEL) / 2 * len(ordered))
    low, high = ordered[tail], ordered[-1 - tail]
    if max(differences) == min(differences):
        unseen = 1 - (1 - LEVEL) ** (1 / count)
        low, high = max(-1.0, mean - unseen), min(1.0, mean + unseen)
    return Interval(mean, low, high)


def summary_of(name: str, rows: Sequence[Row], means: Sequence[float] = ()) -> Summary:
    """Returns a system over some items; `means` are those of resampled items."""
    scores = [row.score for row in rows]
    return Summary(
        name,
        len(rows),
        _score(scores, means),
        quantiles([row.cost for row in rows]),
        quantiles([row.tokens for row in rows]),
        quantiles([row.seconds for row in rows]) or Quantiles(0, 0, 0, 0),
        quantiles([row.calls for row in rows]) or Quantiles(0, 0, 0, 0),
        quantiles([row.turns for row in rows if row.turns is not None]),
        quantiles([row.sub_calls for row in rows if row.sub_calls is not None]),
        dict(Counter(row.failure for row in rows if row.failure).most_common()),
        dict(Counter(row.status for row in rows).most_common()),
        sum(row.cached for row in rows),
    )


def _score(scores: Sequence[float], means: Sequence[float]) -> Interval:
    """Returns the mean with its interval: Wilson's for right and wrong answers, a bootstrap for other scores."""
    count = len(scores)
    if not count:
        return Interval(0.0, 0.0, 1.0)
    mean = sum(scores) / count
    if all(score in (0, 1) for score in scores):
        return wilson(sum(scores), count)
    ordered = sorted(means)
    if not ordered:
        return Interval(mean, mean, mean)
    tail = round((1 - LEVEL) / 2 * len(ordered))
    return Interval(mean, ordered[tail], ordered[-1 - tail])


def quantiles(amounts: Sequence[float | None]) -> Quantiles | None:
    """Returns the median, the 90th percentile, the largest and the total; None if an amount is unknown or there are none."""
    known = sorted(amount for amount in amounts if amount is not None)
    if not known or len(known) < len(amounts):
        return None
    median, p90, most = (known[max(0, math.ceil(q * len(known)) - 1)] for q in QUANTILES)
    if len(known) % 2 == 0:
        median = (median + known[len(known) // 2]) / 2
    return Quantiles(median, p90, most, sum(known))
