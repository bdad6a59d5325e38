"""What a run spent: totals by model and depth, and how each limit of the budget was used up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dspy_rlm.journal.records import AttemptRecord, CallRecord
from dspy_rlm.reports.report import added
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.content.indexes import Index, amount, end_of_call
from dspy_rlm.viewer.texts import Texts

# Points of one line of a chart.
MAX_POINTS = 400

_UNITS = {
    "max_iterations": "turns",
    "max_llm_calls": "calls",
    "max_tokens": "tokens",
    "max_cost": "dollars",
    "max_seconds": "seconds",
}


def totals_of(index: Index, texts: Texts) -> list[doc.Totals]:
    """Returns the totals by depth and model, those of runs' own turns apart from those of sub-calls."""
    found: dict[tuple[int, bool, str], doc.Totals] = {}
    for call in index.calls:
        place = call.depth, call.is_sub_call, call.model
        total = found.setdefault(
            place,
            {
                "model": texts.name(call.model),
                "depth": call.depth,
                "is_sub_call": call.is_sub_call,
                "calls": 0,
                "cached": 0,
                "failed": 0,
                "input_tokens": 0,
                "output_tokens": 0,
                "cost": 0.0,
                "seconds": 0.0,
            },
        )
        total["failed"] += call.error is not None
        for attempt in call.attempts:
            total["seconds"] = round(total["seconds"] + attempt.seconds, 4)
            if attempt.cached:
                total["cached"] += 1
                continue
            total["calls"] += 1
            total["input_tokens"] = added(total["input_tokens"], attempt.input_tokens)
            total["output_tokens"] = added(total["output_tokens"], attempt.output_tokens)
            total["cost"] = added(total["cost"], amount(attempt.cost))
    return [found[place] for place in sorted(found)]


def gauges_of(index: Index) -> list[doc.Gauge]:
    """Returns the limits of the budget, each with what was spent of it over time."""
    budget = index.root.config.get("budget")
    limits: dict[str, Any] = dict(budget) if isinstance(budget, dict) else {}
    reached = str((index.root.ended or {}).get("stopped_by", ""))
    return [
        _gauge(
            name, _limit(limits.get(name)), reached == name, _amounts(index, name), index.seconds
        )
        for name in _UNITS
    ]


def _limit(value: Any) -> float | None:
    return value if type(value) in (int, float) else None


def _gauge(
    name: str,
    limit: float | None,
    reached: bool,
    amounts: Iterable[tuple[float, float | None]],
    seconds: float,
) -> doc.Gauge:
    points: list[tuple[float, float]] = [(0.0, 0.0)]
    total, is_known = 0.0, True
    for moment, more in sorted(amounts, key=lambda one: one[0]):
        if more is None:
            is_known = False
        elif more:
            total += more
            points.append((moment, round(total, 8)))
    points.append((seconds, round(total, 8)))
    return {
        "name": name,
        "unit": _UNITS[name],
        "limit": limit,
        "spent": round(total, 8) if is_known else None,
        "reached": reached,
        "points": thinned(points),
    }


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns at most `MAX_POINTS` of the points, with the first and the last."""
    if len(points) <= MAX_POINTS:
        return points
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(number * step)] for number in range(MAX_POINTS)]


def _amounts(index: Index, name: str) -> Iterator[tuple[float, float | None]]:
    """Yields what counts against a limit, with the time."""
    if name == "max_iterations":
        yield from ((index.since(step.started_at), 1.0) for step in index.root.all_steps)
    elif name == "max_seconds":
        yield index.seconds, index.seconds
    elif name == "max_llm_calls":
        caused = (call for call in index.calls if call.is_sub_call or call.depth > 0)
        yield from ((index.since(call.started_at), 1.0) for call in caused)
    else:
        for call in index.calls:
            for attempt in call.attempts:
                yield index.since(_end(call, attempt)), _spent(attempt, name)


def _end(call: CallRecord, attempt: AttemptRecord) -> float:
    return attempt.started_at + attempt.seconds if attempt.started_at else end_of_call(call) or 0.0


def _spent(attempt: AttemptRecord, name: str) -> float | None:
    if attempt.cached:
        return 0.0
    if name == "max_cost":
        return amount(attempt.cost)
    tokens: float | None = added(attempt.input_tokens, attempt.output_tokens)
    return tokens
