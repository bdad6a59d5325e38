"""The rows of `benchmarks.tasks`, and their tables as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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
    head = (
        "task",
        "tokens",
        "score",
        "published rule",
        "turns",
        "sub-calls",
        "root tokens a turn",
        "sub tokens",
        "s",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = (
            row.task,
            f"{row.tokens:,}",
            f"{row.score:.3g}",
            f"{row.official:.3g}",
            f"{row.turns:.3g}",
            f"{row.calls:.3g}",
            f"{row.root_tokens_per_turn:,.0f}",
            f"{row.sub_tokens:,.0f}",
            f"{row.seconds:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def failed_table(rows: Sequence[FailedRow]) -> list[str]:
    """Returns the rows as Markdown."""
    head = (
        "task",
        "way to fail",
        "score",
        "published rule",
        "end",
        "turns",
        "sub-calls",
        "tokens, to honest",
        "in the run",
        "in the record",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = (
            row.task,
            row.failure,
            f"{row.score:.2f}",
            f"{row.official:.2f}",
            row.ended,
            str(row.turns),
            str(row.calls),
            f"{row.tokens:,} ({row.tokens / row.honest_tokens:.1f}x)",
            "; ".join(row.reactions).replace("|", "/") or "nothing",
            ", ".join(row.reported) or "nothing",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def ways_table(rows: Sequence[FailedRow]) -> list[str]:
    """Returns a table of the ways to fail: what all tasks have together, with the number of tasks where they differ."""
    head = (
        "way to fail",
        "tasks",
        "score",
        "end",
        "turns",
        "sub-calls",
        "tokens, to honest",
        "in the run",
        "in the record",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for way in dict.fromkeys(row.failure for row in rows):
        of_way = [row for row in rows if row.failure == way]
        cells = (
            way,
            str(len(of_way)),
            _each(f"{row.score:.2g}" for row in of_way),
            _each(row.ended for row in of_way),
            _span([row.turns for row in of_way], "d"),
            _span([row.calls for row in of_way], ",d"),
            _span([row.tokens / row.honest_tokens for row in of_way], ".2g") + "x",
            _each(", ".join(text.split(":")[0] for text in row.reactions) for row in of_way),
            _each(", ".join(sorted(set(row.reported))) for row in of_way),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def tokens_table(rows: Sequence[FailedRow]) -> list[str]:
    """Returns a table of tasks and ways to fail: the tokens, as a multiple of the honest policy's."""
    ways = list(dict.fromkeys(row.failure for row in rows))
    lines = [f"| task | honest | {' | '.join(ways)} |", "|---" * (len(ways) + 2) + "|"]
    for task in dict.fromkeys(row.task for row in rows):
        of_task = {row.failure: row for row in rows if row.task == task}
        honest = f"{next(iter(of_task.values())).honest_tokens:,}"
        cells = (
            f"{of_task[way].tokens / of_task[way].honest_tokens:.2g}x" if way in of_task else ""
            for way in ways
        )
        lines.append(f"| {task} | {honest} | {' | '.join(cells)} |")
    return lines


def _each(texts: Iterable[str]) -> str:
    """Returns the different texts, with the number of each if there are several."""
    counts = Counter(text or "nothing" for text in texts)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({count})" for text, count in counts.most_common())


def _span(numbers: Sequence[float], form: str) -> str:
    low, high = f"{min(numbers):{form}}", f"{max(numbers):{form}}"
    return low if low == high else f"{low} to {high}"
