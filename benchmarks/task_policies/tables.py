"""The rows of `benchmarks.tasks`, and their tables as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One policy on one task at one length: means over its examples."""

    task: str
    tokens: int
    examples: int
    score: float
    official: float
    turns: float
    calls: float
    root_tokens_per_turn: float
    sub_tokens: float
    seconds: float


@dataclass(frozen=True)
class FailedRow:
    """A way to fail on a task."""

    task: str
    failure: str
    score: float
    known: tuple[float, float]
    """The lowest and the highest score that the policy can have."""
    official: float
    ended: str
    turns: int
    calls: int
    tokens: int
    """Tokens of all prompts, of the root and of the sub-LM."""
    honest_tokens: int
    """The same of the honest policy on the same example."""
    reactions: list[str]
    reported: list[str]


def honest_table(rows: Sequence[Row]) -> list[str]:
    """Returns the rows as Markdown."""
    columns: dict[str, Callable[[Row], str]] = {
        "task": lambda row: row.task,
        "tokens": lambda row: f"{row.tokens:,}",
        "score": lambda row: f"{row.score:.3g}",
        "published rule": lambda row: f"{row.official:.3g}",
        "turns": lambda row: f"{row.turns:.3g}",
        "sub-calls": lambda row: f"{row.calls:.3g}",
        "root tokens a turn": lambda row: f"{row.root_tokens_per_turn:,.0f}",
        "sub tokens": lambda row: f"{row.sub_tokens:,.0f}",
        "s": lambda row: f"{row.seconds:.1f}",
    }
    return _table(columns, rows)


def failed_table(rows: Sequence[FailedRow]) -> list[str]:
    """Returns the rows as Markdown."""
    columns: dict[str, Callable[[FailedRow], str]] = {
        "task": lambda row: row.task,
        "way to fail": lambda row: row.failure,
        "score": lambda row: f"{row.score:.2f}",
        "published rule": lambda row: f"{row.official:.2f}",
        "end": lambda row: row.ended,
        "turns": lambda row: str(row.turns),
        "sub-calls": lambda row: str(row.calls),
        "tokens, to honest": lambda row: f"{row.tokens:,} ({row.tokens / row.honest_tokens:.1f}x)",
        "in the run": lambda row: "; ".join(row.reactions).replace("|", "/") or "nothing",
        "in the record": lambda row: ", ".join(row.reported) or "nothing",
    }
    return _table(columns, rows)


def ways_table(rows: Sequence[FailedRow]) -> list[str]:
    """Returns a table of the ways to fail: what all tasks have together, with the number of tasks where they differ."""
    ways = [
        [row for row in rows if row.failure == way]
        for way in dict.fromkeys(row.failure for row in rows)
    ]
    columns: dict[str, Callable[[list[FailedRow]], str]] = {
        "way to fail": lambda way: way[0].failure,
        "tasks": lambda way: str(len(way)),
        "score": lambda way: _each(f"{row.score:.2g}" for row in way),
        "end": lambda way: _each(row.ended for row in way),
        "turns": lambda way: _span([row.turns for row in way], "d"),
        "sub-calls": lambda way: _span([row.calls for row in way], ",d"),
        "tokens, to honest": lambda way: (
            _span([row.tokens / row.honest_tokens for row in way], ".2g") + "x"
        ),
        "in the run": lambda way: _each(
            ", ".join(text.split(":")[0] for text in row.reactions) for row in way
        ),
        "in the record": lambda way: _each(", ".join(sorted(set(row.reported))) for row in way),
    }
    return _table(columns, ways)


def tokens_table(rows: Sequence[FailedRow]) -> list[str]:
    """Returns a table of tasks and ways to fail: the tokens, as a multiple of the honest policy's."""
    ways = list(dict.fromkeys(row.failure for row in rows))
    lines = _head(["task", "honest", *ways])
    for task in dict.fromkeys(row.task for row in rows):
        of_task = {row.failure: row for row in rows if row.task == task}
        honest = f"{next(iter(of_task.values())).honest_tokens:,}"
        cells = (
            f"{of_task[way].tokens / of_task[way].honest_tokens:.2g}x" if way in of_task else ""
            for way in ways
        )
        lines.append(_line([task, honest, *cells]))
    return lines


def _table(columns: Mapping[str, Callable[[T], str]], rows: Sequence[T]) -> list[str]:
    """Returns rows as Markdown: the titles of the columns, each with the text of its cells."""
    return _head(columns) + [_line(cell(row) for cell in columns.values()) for row in rows]


def _head(titles: Collection[str]) -> list[str]:
    return [_line(titles), "|---" * len(titles) + "|"]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _each(texts: Iterable[str]) -> str:
    """Returns the different texts, with the number of each if there are several."""
    counts = Counter(text or "nothing" for text in texts)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({count})" for text, count in counts.most_common())


def _span(numbers: Sequence[float], form: str) -> str:
    low, high = f"{min(numbers):{form}}", f"{max(numbers):{form}}"
    return low if low == high else f"{low} to {high}"
