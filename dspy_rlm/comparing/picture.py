"""Pictures of a comparison as SVG: score against cost, and score against length. Classes only: a strict policy forbids styles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dspy_rlm.comparing.advice import tokens_text
from dspy_rlm.comparing.intervals import Interval
from dspy_rlm.comparing.statistics import Bin, Summary
from dspy_rlm.reports.text import dollars
from dspy_rlm.viewer.escaping import escaped

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 168, 16, 48

# The palette has as many colours; systems beyond that share the last one.
COLOURS = 6

# Labels are at least so far apart.
LABEL_HEIGHT = 15


@dataclass(frozen=True)
class _Scale:
    """A position on an axis for each value."""

    place: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]


def cost_picture(found: Bin) -> str:
    """Returns the score of each system against what an item costs: dollars, or tokens where a price is unknown."""
    amounts, title, unit = _amounts(found.systems)
    if not amounts:
        return ""
    x = _log_scale(amounts, unit)
    parts = [_frame(x, title)]
    marks = []
    for index, (one, amount) in enumerate(zip(found.systems, amounts, strict=True)):
        left, top = x.place(amount), _y(one.score.mean)
        parts.append(_whisker(index, left, one.score))
        parts.append(
            f'<circle class="dot s{_colour(index)}" cx="{left:.1f}" cy="{top:.1f}" r="5">'
            f"<title>{escaped(one.system)}: {one.score.mean:.3f}, {unit(amount)} an item</title></circle>"
        )
        marks.append((left, top, one.system, index))
    parts += _labels_at_dots(marks)
    return _svg(parts, f"Score against {title.lower()} for each system")


def length_picture(bins: Sequence[Bin]) -> str:
    """Returns the score of each system against the length of the inputs; empty for a single bin."""
    if len(bins) < 2:
        return ""
    inner = WIDTH - LEFT - RIGHT
    places = [LEFT + inner * (index + 0.5) / len(bins) for index in range(len(bins))]
    ticks = tuple(
        (place, f"{_range(one)} ({one.items})") for place, one in zip(places, bins, strict=True)
    )
    parts = [_frame(_Scale(lambda value: value, ticks), "Tokens of the inputs (items)")]
    ends = []
    for index, name in enumerate(one.system for one in bins[0].systems):
        scores = [one.systems[index].score for one in bins]
        # Beside each other: intervals would cover each other.
        shift = (index - (len(bins[0].systems) - 1) / 2) * 7
        points = [
            (place + shift, _y(score.mean)) for place, score in zip(places, scores, strict=True)
        ]
        line = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
        parts.append(f'<polyline class="line s{_colour(index)}" points="{line}"/>')
        for (left, top), score in zip(points, scores, strict=True):
            parts.append(_whisker(index, left, score))
            parts.append(
                f'<circle class="dot s{_colour(index)}" cx="{left:.1f}" cy="{top:.1f}" r="4">'
                f"<title>{escaped(name)}: {score.mean:.3f}</title></circle>"
            )
        ends.append((points[-1][1], name, index))
    parts += _labels_at_right(ends)
    return _svg(parts, "Score against the length of the inputs for each system")


def _amounts(
    systems: Sequence[Summary],
) -> tuple[list[float], str, Callable[[float], str]]:
    costs = [one.cost.total / one.items if one.cost and one.items else 0.0 for one in systems]
    if all(costs):
        return costs, "US dollars an item (mean)", dollars
    tokens = [one.tokens.total / one.items if one.tokens and one.items else 0.0 for one in systems]
    if any(tokens):
        return [max(1.0, amount) for amount in tokens], "Tokens an item (mean)", tokens_text
    return [], "", str


def _log_scale(amounts: Sequence[float], unit: Callable[[float], str]) -> _Scale:
    low = math.floor(math.log10(min(amounts)) - 0.1)
    high = max(low + 1, math.ceil(math.log10(max(amounts)) + 0.1))
    inner = WIDTH - LEFT - RIGHT

    def place(value: float) -> float:
        return LEFT + inner * (math.log10(value) - low) / (high - low)

    return _Scale(
        place, tuple((place(10.0**power), unit(10.0**power)) for power in range(low, high + 1))
    )


def _y(score: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(1.0, max(0.0, score)))


def _frame(x: _Scale, title: str) -> str:
    right = WIDTH - RIGHT
    parts = []
    for score in (0, 0.25, 0.5, 0.75, 1):
        top = _y(score)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{top:.1f}" x2="{right}" y2="{top:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{score:g}</text>'
        )
    for place, text in x.ticks:
        parts.append(
            f'<line class="grid" x1="{place:.1f}" y1="{TOP}" x2="{place:.1f}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="tick" x="{place:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
            f"{escaped(text)}</text>"
        )
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escaped(title)}</text>'
    )
    height = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis" x="14" y="{height:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {height:.1f})">Score</text>'
    )
    return "".join(parts)


def _whisker(index: int, left: float, score: Interval) -> str:
    low, high = _y(score.low), _y(score.high)
    return (
        f'<path class="whisker s{_colour(index)}" '
        f'd="M{left - 4:.1f} {low:.1f}h8m-4 0V{high:.1f}m-4 0h8"/>'
    )


def _labels_at_dots(marks: Sequence[tuple[float, float, str, int]]) -> list[str]:
    """Returns the names to the right of their dots, those that would overlap below each other."""
    placed: list[tuple[float, float]] = []
    labels = []
    for left, top, name, index in sorted(marks, key=lambda mark: (mark[1], mark[0])):
        at = top
        while any(
            abs(at - other) < LABEL_HEIGHT and abs(left - beside) < RIGHT
            for beside, other in placed
        ):
            at += 1
        placed.append((left, at))
        labels.append(_label(left + 11, at, name, index))
    return labels


def _labels_at_right(ends: Sequence[tuple[float, str, int]]) -> list[str]:
    labels, last = [], -math.inf
    for top, name, index in sorted(ends):
        last = max(top, last + LABEL_HEIGHT)
        labels.append(_label(WIDTH - RIGHT + 12, last, name, index))
    return labels


def _label(left: float, top: float, name: str, index: int) -> str:
    short = name if len(name) <= 22 else f"{name[:21]}\u2026"
    return f'<text class="label s{_colour(index)}" x="{left:.1f}" y="{top + 4:.1f}">{escaped(short)}</text>'


def _colour(index: int) -> int:
    return min(index, COLOURS - 1)


def _range(one: Bin) -> str:
    if one.high is None:
        return f"{tokens_text(one.low)} or more"
    return f"{tokens_text(one.low)} to {tokens_text(one.high)}"


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}">'
        + "".join(parts)
        + "</svg>"
    )
