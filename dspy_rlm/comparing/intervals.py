"""Means of two paired samples, and of their difference, with bootstrap intervals. No I/O.

Both programs are measured on the same examples, which differ more from each other than the programs do. So examples are
drawn, with both their scores (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, percentile intervals).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean, with the bounds that it lies between."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True if both bounds are on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """Two programs on the same examples."""

    before: Interval
    after: Interval
    difference: Interval


def interval(scores: Sequence[float], seed: int = 0) -> Interval:
    """Returns the mean of one sample."""
    return compared(scores, scores, seed).before


def compared(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Comparison:
    """Returns the means of two samples of the same examples, and of their differences.

    Raises:
        ValueError: They are empty, or of different lengths.
    """
    count = len(before)
    if not count or count != len(after):
        raise ValueError("Two samples of the same examples are needed.")
    rng = random.Random(seed)  # noqa: S311 - no secret
    indices = range(count)
    means_before, means_after = [], []
    for _ in range(RESAMPLES):
        drawn = rng.choices(indices, k=count)
        means_before.append(sum(map(before.__getitem__, drawn)) / count)
        means_after.append(sum(map(after.__getitem__, drawn)) / count)
    differences = [b - a for a, b in zip(means_before, means_after, strict=True)]
    mean_before, mean_after = sum(before) / count, sum(after) / count
    return Comparison(
        _between(mean_before, means_before),
        _between(mean_after, means_after),
        _between(mean_after - mean_before, differences),
    )


def _between(mean: float, resampled: list[float]) -> Interval:
    ordered = sorted(resampled)
    tail = round((1 - LEVEL) / 2 * len(ordered))
    return Interval(mean, ordered[tail], ordered[-1 - tail])


def wilson(successes: float, count: int) -> Interval:
    """Returns a proportion with its score interval (Wilson, JASA 22, 1927).

    Unlike a bootstrap it has a width where all answers are right, or none.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    mean = successes / count
    center = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count**2))
    return Interval(mean, max(0.0, center - half), min(1.0, center + half))
