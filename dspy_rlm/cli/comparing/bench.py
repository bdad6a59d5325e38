"""`dspy-rlm bench`: the tasks of a suite one after the other, within one limit; then the page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm.cli.comparing.bench_page import bench_page, bench_text
from dspy_rlm.cli.comparing.published import SUITES
from dspy_rlm.cli.comparing.run import (
    Models,
    goes_on_after_bill,
    kept,
    loaded_task,
    models_of,
    progress,
    ready_made,
)
from dspy_rlm.cli.exit_codes import BUDGET, COMPLETE, CommandError
from dspy_rlm.cli.notes import Notes
from dspy_rlm.comparing.compare import compare
from dspy_rlm.comparing.items import length_of
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.rows import read_all_rows
from dspy_rlm.terminal.escaping import log_plainly, show_exactly

FORMAT, VERSION = "dspy-rlm/bench", 1


def run_bench(options: argparse.Namespace) -> int:
    """Runs a suite; prints the table to stdout and everything else to stderr; returns the exit code.

    Raises:
        CommandError: An argument is wrong.
    """
    log_plainly()
    notes = Notes(quiet=options.quiet)
    models = models_of(options)
    folder = options.folder or Path(f"bench-{options.suite}")
    parts = {
        part.task: loaded_task(part.task, options.tokens, options.items, options.seed)
        for part in SUITES[options.suite]
    }
    lengths = [
        length_of(example.inputs().toDict()) for task in parts.values() for example in task.examples
    ]
    names = [*ready_made(options, models, next(iter(parts.values())).signature, ())]
    if not goes_on_after_bill(options, models, names, lengths, notes):
        return COMPLETE
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, ComparisonResult] = {}
    for name, task in parts.items():
        notes.info(f"Task {name}:")
        limit = _limit(options.max_cost, folder, [*parts], name)
        with kept(notes, str(folder)):
            results[name] = _measured(options, models, folder, name, task, limit, notes)
        results[name].save(folder / f"{name}.html")
        results[name].save(folder / f"{name}.json")
    page = folder / "index.html"
    page.write_text(bench_page(options.suite, results), "utf-8")
    notes.info(f"Saved to {page}.")
    dumped = {
        "format": FORMAT,
        "version": VERSION,
        "suite": options.suite,
        "page": str(page),
        "tasks": {name: {**result.dump(), "rows": None} for name, result in results.items()},
    }
    show_exactly(
        json.dumps(dumped, indent=2) if options.json else bench_text(options.suite, results),
        sys.stdout,
    )
    return BUDGET if any(result.stopped_by for result in results.values()) else COMPLETE


def _limit(max_cost: float | None, folder: Path, names: Sequence[str], name: str) -> float | None:
    """Returns the limit of one task: what it has spent, and its share of what is left for it and those after it."""
    if max_cost is None:
        return None
    spent = {other: _spent(folder, other) for other in names}
    left = max(0.0, max_cost - sum(spent.values()))
    return spent[name] + left / (len(names) - names.index(name))


def _measured(
    options: argparse.Namespace,
    models: Models,
    folder: Path,
    name: str,
    task: Any,
    max_cost: float | None,
    notes: Notes,
) -> ComparisonResult:
    systems = ready_made(options, models, task.signature, task.tools)
    with dspy.context(lm=models.lm):
        return compare(
            task,
            systems,
            task.metric,
            file=_rows(folder, name),
            threads=options.threads,
            max_cost=max_cost,
            max_seconds=options.max_seconds,
            prices=models.prices,
            seed=options.seed,
            on_row=progress(notes, len(task.examples) * len(systems)),
        )


def _rows(folder: Path, name: str) -> Path:
    return folder / f"{name}.rows.jsonl"


def _spent(folder: Path, name: str) -> float:
    """Returns what all rows of a task have cost, also those that were measured again.

    Raises:
        CommandError: The cost of a row is unknown.
    """
    costs = [row.cost for row in read_all_rows(_rows(folder, name))]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        raise CommandError(
            f"The cost of a row in {_rows(folder, name)} is unknown, so --max-cost cannot be kept. Go on without --max-cost, "
            "or in another folder.",
            BUDGET,
        )
    return sum(known)
