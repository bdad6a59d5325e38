"""`dspy-rlm runs`: the recorded runs in the folder of journals. Imports no DSPy."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from dspy_rlm.cli.exit_codes import USAGE, CommandError
from dspy_rlm.cli.journals import find_run, folder_of_runs, journals_in
from dspy_rlm.cli.recorded.summaries import RUNNING, RunSummary, statistics, summary_of
from dspy_rlm.cli.recorded.tables import run_text, runs_table, statistics_text, step_text
from dspy_rlm.errors import InputError
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.journal import load
from dspy_rlm.journal.records import RunRecord, StepRecord, read_text
from dspy_rlm.journal.values import folder_of
from dspy_rlm.reports.text import count
from dspy_rlm.terminal.escaping import show, show_exactly

_DAY = 86_400.0


def list_runs(options: argparse.Namespace) -> int:
    """Prints the newest runs."""
    journals = journals_in(folder_of_runs(options.journals))
    runs = [summary_of(path) for path in journals[: options.number]]
    if options.json:
        _print_json([dataclasses.asdict(run) for run in runs])
    elif runs:
        show(runs_table(runs), sys.stdout)
        if len(journals) > len(runs):
            show(f"{count(len(journals) - len(runs), 'older run')}: -n N shows more.", sys.stderr)
    else:
        show(f"No run was recorded in {folder_of_runs(options.journals)}.", sys.stderr)
    return 0


def show_run(options: argparse.Namespace) -> int:
    """Prints a run, or one step of it as a whole."""
    path = find_run(options.run, options.journals)
    record, summary = load(path), summary_of(path)
    if options.step is not None:
        step = _step(record, options.step)
        if options.json:
            _print_json(_dumped(step))
        else:
            show(step_text(step).strip("\n"), sys.stdout)
    elif options.json:
        steps = [_dumped(step) for step in record.all_steps]
        _print_json({**dataclasses.asdict(summary), "report": record.ended, "trajectory": steps})
    else:
        show(run_text(record, summary), sys.stdout)
    return 0


def show_statistics(options: argparse.Namespace) -> int:
    """Prints the totals of all runs of the folder, or of those that are named."""
    paths = [find_run(run, options.journals) for run in options.runs]
    runs = [summary_of(p) for p in paths or journals_in(folder_of_runs(options.journals))]
    facts = statistics(runs)
    if options.json:
        _print_json(facts)
    else:
        show(statistics_text(facts), sys.stdout)
    return 0


def prune(options: argparse.Namespace) -> int:
    """Deletes the journals of old runs, with their values. Never deletes the journal of a running run."""
    if options.older_than is None and options.keep is None and options.status is None:
        raise CommandError(
            "Nothing says which runs to delete. Write --older-than DAYS, --keep N or --status STATUS; --dry-run shows "
            "them first.",
            USAGE,
        )
    if (options.keep or 0) < 0 or (options.older_than or 0) < 0:
        raise CommandError("--keep and --older-than must be 0 or more.", USAGE)
    freed, deleted = 0, 0
    for run in _chosen(options):
        path = Path(run.path)
        size = _size(path)
        show(f"{'would delete' if options.dry_run else 'deleted'} {path}", sys.stdout)
        if not options.dry_run:
            _delete(path)
        freed, deleted = freed + size, deleted + 1
    ending = "would be deleted" if options.dry_run else "deleted"
    show(f"{count(deleted, 'run')} {ending}, {size_text(freed)}", sys.stderr)
    return 0


def _chosen(options: argparse.Namespace) -> list[RunSummary]:
    """Returns the runs to delete: those that all criteria name."""
    now = time.time()
    chosen = []
    for number, path in enumerate(journals_in(folder_of_runs(options.journals))):
        if path.is_symlink() or (options.keep is not None and number < options.keep):
            continue
        age = (now - path.stat().st_mtime) / _DAY
        if options.older_than is not None and age < options.older_than:
            continue
        run = summary_of(path)
        # Files that are not journals are not ours to delete.
        if run.problem or run.status == RUNNING:
            continue
        if options.status is None or run.status == options.status:
            chosen.append(run)
    return chosen


def _delete(path: Path) -> None:
    values = folder_of(path)
    try:
        # The journal last: values without one would belong to nothing that `runs` shows.
        if values.is_dir() and not values.is_symlink():
            shutil.rmtree(values)
        path.unlink()
    except OSError as error:
        raise InputError(
            f"{path} cannot be deleted: {error.strerror}. Check who owns it and its folder."
        ) from error


def _size(path: Path) -> int:
    total = path.stat().st_size
    for folder, _, names in os.walk(folder_of(path)):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(folder, name).lstat().st_size
    return total


def _step(record: RunRecord, number: int) -> StepRecord:
    for step in record.all_steps:
        if step.number == number:
            return step
    raise InputError(
        f"{record.path} has no step {number}. Its steps are 1 to {len(record.all_steps)}."
    )


def _dumped(step: StepRecord) -> dict[str, Any]:
    return {
        "number": step.number,
        "reasoning": read_text(step.reasoning),
        "code": read_text(step.code),
        "output": read_text(step.shown),
        "printed": read_text(step.cell.output) if step.cell else None,
        "outcome": step.cell.outcome if step.cell else None,
        "sub_calls": len(step.sub_calls),
        "sub_runs": [run.run_id for run in step.sub_runs],
    }


def _print_json(value: Any) -> None:
    show_exactly(json.dumps(value, indent=2, default=str), sys.stdout)
