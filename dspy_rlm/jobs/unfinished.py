"""The rows that were under way when an earlier process ended: the money that their own journals say was spent."""

from __future__ import annotations

import shutil
from pathlib import Path

from dspy_rlm.jobs.job_journal import JobJournal
from dspy_rlm.jobs.row_run import clean
from dspy_rlm.journal import load
from dspy_rlm.journal.errors import JournalError


def spent_by_unfinished(runs: Path, journal: JobJournal) -> float:
    """Returns the US dollars of rows that have not ended; calls of unknown cost count as nothing.

    Removes the journals of those that have: the process ended before it could.
    """
    clean(runs)
    total = 0.0
    for path in runs.glob("*/run.jsonl"):
        try:
            digest = bytes.fromhex(path.parent.name)
        except ValueError:
            continue
        if journal.is_closed(digest):
            shutil.rmtree(path.parent, ignore_errors=True)
        elif not journal.has_cost_of(digest):
            total += spent_by_run(path)
    return total


def spent_by_run(path: Path) -> float:
    """Returns the US dollars of the calls in a row's journal; 0 without one."""
    try:
        calls = load(path).calls()
    except (JournalError, OSError):
        return 0.0
    attempts = (attempt for call in calls for attempt in call.attempts)
    return sum(attempt.cost or 0.0 for attempt in attempts if not attempt.cached)
