"""The result of a suite as text, and as a page: the published table beside the reader's own figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dspy_rlm.cli.comparing.published import ADDRESS, COLUMNS, DATE, PAPER, SOURCE, SUITES, Part
from dspy_rlm.comparing.advice import cost_text
from dspy_rlm.comparing.page import document, pictures, table
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.statistics import Summary
from dspy_rlm.comparing.text import aligned, notes
from dspy_rlm.reports.text import count, dollars
from dspy_rlm.viewer.escaping import escaped

WARNING = (
    "The published figures were measured on other data and at other lengths: compare the order of the systems and the gaps, "
    "not the numbers one by one."
)


@dataclass(frozen=True)
class _Cell:
    """A system on a task."""

    score: str
    cost: str


def _cell(one: Summary | None) -> _Cell:
    if one is None or not one.items:
        return _Cell("-", "-")
    score = one.score
    percent = f"{100 * score.mean:.1f} [{100 * score.low:.0f}, {100 * score.high:.0f}]"
    return _Cell(percent, cost_text(one.cost.total / one.items if one.cost else None))


def _systems(results: Mapping[str, ComparisonResult]) -> list[str]:
    return list(dict.fromkeys(name for result in results.values() for name in result.systems))


def own_rows(suite: str, results: Mapping[str, ComparisonResult]) -> list[list[str]]:
    """Returns the reader's own table: a row for each system, the score and the cost of an item for each task."""
    rows = []
    for name in _systems(results):
        row = [name]
        for part in SUITES[suite]:
            cell = _cell(_summary(results.get(part.task), name))
            row += [cell.score, cell.cost]
        rows.append(row)
    return rows


def _summary(result: ComparisonResult | None, system: str) -> Summary | None:
    if result is None:
        return None
    return next((one for one in result.overall.systems if one.system == system), None)


def own_heads(suite: str) -> list[str]:
    """Returns the headings of the reader's own table."""
    return ["system", *(head for part in SUITES[suite] for head in (part.task, "cost"))]


def paper_rows() -> list[list[str]]:
    """Returns the published table in the same form."""
    return [
        [
            f"{one.model}, {one.method}",
            *(
                cell
                for percent, cost in zip(one.percent, one.dollars, strict=True)
                for cell in (f"{percent:g}", "-" if cost is None else dollars(cost))
            ),
        ]
        for one in PAPER
    ]


def paper_heads() -> list[str]:
    """Returns the headings of the published table."""
    return ["method", *(head for name, _ in COLUMNS for head in (name, "cost"))]


def bench_text(suite: str, results: Mapping[str, ComparisonResult]) -> str:
    """Returns both tables, and the recommendation for each task."""
    lines = ["Your figures, in percent with 95 % intervals, and the mean cost of an item:", ""]
    lines += aligned([own_heads(suite), *own_rows(suite, results)])
    lines += ["", f"{SOURCE} ({DATE}):", ""]
    lines += aligned([paper_heads(), *paper_rows()])
    lines += ["", WARNING]
    for name, result in results.items():
        lines += ["", f"{name}: {count(len(result.pairs), 'item')}"]
        lines += [f"  {one.text}" for one in result.advice]
        lines += [f"  {note}" for note in notes(result)]
    return "\n".join(lines)


def bench_page(suite: str, results: Mapping[str, ComparisonResult]) -> str:
    """Returns the page of a suite. It links to the pages of the tasks, which lie beside it."""
    parts = [
        f"<h1>Suite {escaped(suite)}</h1>\n",
        f'<p class="quiet">{escaped(_models(results))}</p>\n',
        f'<div class="notes"><p>{escaped(WARNING)}</p></div>\n',
        "<h2>Your figures</h2>\n",
        table(
            own_heads(suite),
            own_rows(suite, results),
            "Percent with 95 % intervals, and the mean cost of an item",
        ),
        "<h2>Published figures</h2>\n",
        f'<p class="quiet">{escaped(SOURCE)}, {DATE}: '
        f'<a href="{ADDRESS}" rel="noreferrer">{ADDRESS}</a>. Lengths of the inputs in tokens: '
        + escaped("; ".join(f"{name} {length}" for name, length in COLUMNS))
        + ".</p>\n",
        table(
            paper_heads(), paper_rows(), "Percent (OOLONG: partial credit; OOLONG-Pairs: F1), and the mean cost of an item"
        ),
        "<h2>The tasks</h2>\n",
        table(
            ("task", "resembles", "items", "what is different"),
            [_task_row(part, results.get(part.task)) for part in SUITES[suite]],
            words=1,
        ),
    ]  # fmt: skip
    for name, result in results.items():
        parts.append(
            f'<h2><a href="{escaped(name)}.html">{escaped(name)}</a></h2>\n<ul class="advice">'
        )
        for one in result.advice:
            parts.append(f'<li class="{one.verdict.replace(" ", "-")}">{escaped(one.text)}</li>')
        parts.append("</ul>\n")
        parts += [f'<p class="quiet">{escaped(note)}</p>\n' for note in notes(result)]
        parts += [*pictures(result)]
    return document(f"Suite {suite}", "".join(parts))


def _models(results: Mapping[str, ComparisonResult]) -> str:
    models = {
        f"{system}: {names}"
        for result in results.values()
        for system, names in result.models.items()
        if names
    }
    return f"Models: {'; '.join(sorted(models))}." if models else ""


def _task_row(part: Part, result: ComparisonResult | None) -> tuple[str, str, str, str]:
    items = "0" if result is None else f"{len(result.pairs)} of {result.items}"
    return part.task, part.column or "-", items, part.difference
