"""The result of a comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dspy_rlm.comparing.advice import (
    cost_text,
    interval_text,
    range_text,
    tokens_text,
)
from dspy_rlm.comparing.statistics import Bin, Quantiles, Summary
from dspy_rlm.reports.text import count

if TYPE_CHECKING:
    from dspy_rlm.comparing.result import ComparisonResult

HEADINGS = (
    "system", "score", "95 % interval", "cost: median", "p90", "total", "tokens: median",
    "seconds: median", "p90", "turns", "sub-calls", "failures",
)  # fmt: skip


def text_of(result: ComparisonResult) -> str:
    """Returns the result: the recommendation first, then the figures."""
    parts = [heading(result), *(one.text for one in result.advice)]
    parts += ["", *_table(result.overall)]
    if len(result.bins) > 1:
        for found in result.bins:
            title = f"{range_text(found.low, found.high)}, {count(found.items, 'item')}:"
            parts += ["", title, *_table(found)]
    parts += ["", *differences_text(result.overall), *failures_text(result.overall)]
    return "\n".join([*parts, *(notes(result))]).strip()


def heading(result: ComparisonResult) -> str:
    """Returns a sentence about what was compared."""
    on = f" on {result.name}" if result.name else ""
    pairs = len(result.pairs)
    of = "" if pairs == result.items else f" of {result.items:,}"
    systems = count(len(result.systems), "system")
    return f"{systems}{on}, {pairs:,}{of} items that all of them have a result for."


def notes(result: ComparisonResult) -> list[str]:
    """Returns what a reader must know of the figures."""
    found = []
    if result.stopped_by:
        left = result.items - len(result.pairs)
        found.append(
            f"Stopped by {result.stopped_by}: {count(left, 'item')} not measured for all systems. The same call goes on with them."
        )
    if cached := sum(row.cached for row in result.rows):
        calls = cached + sum(row.calls for row in result.rows)
        found.append(
            f"{cached:,} of {calls:,} LM calls were answered by a cache: costs and seconds are too low by these."
        )
    if failed := sum(row.is_of_server for row in result.rows):
        found.append(
            f"{count(failed, 'row')} failed because of a server, and count as wrong. The same call with a file tries them again."
        )
    if any(row.cost is None for row in result.rows):
        found.append("Costs are unknown where the price of a model is: pass prices=.")
    return found


def figures(one: Summary) -> list[str]:
    """Returns the cells of a table for one system."""
    return [
        one.system,
        f"{one.score.mean:.3f}",
        f"{one.score.low:.3f} to {one.score.high:.3f}",
        *(
            ["unknown"] * 3
            if one.cost is None
            else map(cost_text, (one.cost.median, one.cost.p90, one.cost.total))
        ),
        "unknown" if one.tokens is None else tokens_text(one.tokens.median),
        f"{one.seconds.median:.2f}",
        f"{one.seconds.p90:.2f}",
        _number(one.turns),
        _number(one.sub_calls),
        str(sum(one.failures.values())),
    ]


def _number(amount: Quantiles | None) -> str:
    return "-" if amount is None else f"{amount.median:g}"


def _table(found: Bin) -> list[str]:
    return aligned([HEADINGS, *(figures(one) for one in found.systems)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def differences_text(found: Bin) -> list[str]:
    """Returns the differences of scores between each two systems."""
    names = [one.system for one in found.systems]
    return [
        f"score of {one} less that of {other}: {interval_text(found.differences[one, other])}"
        for index, one in enumerate(names)
        for other in names[index + 1 :]
    ]


def failures_text(found: Bin) -> list[str]:
    """Returns the failures of each system by kind."""
    return [
        f"failures of {one.system}: "
        + ", ".join(f"{kind} {n:,}" for kind, n in one.failures.items())
        for one in found.systems
        if one.failures
    ]
