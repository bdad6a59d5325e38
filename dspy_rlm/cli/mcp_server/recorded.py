"""The runs that a client may see: those that this server has recorded, or all of a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspy_rlm.cli.exit_codes import USAGE, CommandError
from dspy_rlm.cli.journals import LAST, journals_in
from dspy_rlm.cli.recorded.diagnosis import diagnose, findings_text
from dspy_rlm.cli.recorded.summaries import RunSummary, statistics, summary_of
from dspy_rlm.cli.recorded.tables import run_text, runs_table, statistics_text, step_text
from dspy_rlm.errors import InputError
from dspy_rlm.journal import load
from dspy_rlm.journal.records import RunRecord, StepRecord, read_text
from sandbox_runtime.helpers import abridged

# The runs of a list, and the characters of a text for a client, whose context is small.
MAX_RUNS, MAX_CHARS = 50, 50_000

# The characters of each text of a step in the view of a whole run.
_STEP_CHARS = 4_000

Answer = tuple[str, dict[str, Any]]


class Recorded:
    """The recorded runs of a server. Thread-safe: the list of paths only grows."""

    def __init__(self, folder: Path | None, *, all_runs: bool) -> None:
        """Offers the runs of a folder if `all_runs`, else those that are added."""
        self._folder = folder
        self._all_runs = all_runs
        self._own: list[Path] = []

    def add(self, journal: str | None) -> None:
        """Adds a run that this server has recorded."""
        if journal is not None:
            self._own.append(Path(journal))

    # ---- Answers, each as text and as data ----

    def listed(self, number: int) -> Answer:
        """Returns the newest runs."""
        runs = [summary_of(path) for path in self._paths()[: max(1, min(number, MAX_RUNS))]]
        text = runs_table(runs) if runs else "No run was recorded."
        return _bounded(text), {"runs": [_plain(run) for run in runs]}

    def shown(self, name: str, step: int | None) -> Answer:
        """Returns a run, or one step of it as a whole."""
        path = self.find(name)
        record, summary = load(path), summary_of(path)
        if step is None:
            return _bounded(run_text(record, summary)), {"run": _plain(summary)}
        found = _step(record, step)
        return _bounded(step_text(found).strip("\n")), {
            "run": _plain(summary),
            "step": _dumped(found, MAX_CHARS),
        }

    def counted(self, names: Sequence[str]) -> Answer:
        """Returns the totals of runs, or of all."""
        paths = [self.find(name) for name in names] or self._paths()
        facts = statistics([summary_of(path) for path in paths])
        return _bounded(statistics_text(facts)), {"statistics": facts}

    def diagnosed(self, names: Sequence[str]) -> Answer:
        """Returns the waste of runs."""
        records = [load(self.find(name)) for name in names or [LAST]]
        findings = diagnose(records)
        return _bounded(findings_text(findings, len(records))), {
            "findings": [dataclasses.asdict(finding) for finding in findings]
        }

    def viewed(self, name: str) -> Answer:
        """Returns a whole run with its steps, for a program that shows it."""
        path = self.find(name)
        record, summary = load(path), summary_of(path)
        steps = [_dumped(step, _STEP_CHARS) for step in record.all_steps]
        return _bounded(run_text(record, summary)), {"run": _plain(summary), "steps": steps}

    def page(self, name: str) -> Answer:
        """Writes a run as a page for a browser, and returns its path."""
        from dspy_rlm.cli.recorded.view import page_of

        path = str(page_of(self.find(name)))
        return f"The run is in {path}. Open it in a browser.", {"page": path}

    # ---- Runs by name ----

    def find(self, name: str) -> Path:
        """Returns the journal of a run: by its id, a part of it, or `last`. Never by a path.

        Raises:
            InputError: There is none, or there are several.
        """
        paths = self._paths()
        if name == LAST:
            found = paths[:1]
        else:
            found = [path for path in paths if name in (path.stem, path.stem.rpartition("-")[2])]
            found = found or [path for path in paths if name and name in path.stem]
        if not found:
            raise InputError(
                f"There is no run {name!r:.100}. `runs` with the action `list` has those that can be seen."
            )
        if len(found) > 1:
            raise InputError(f"{len(found)} runs match {name!r:.100}. Write more of the name.")
        return found[0]

    def _paths(self) -> list[Path]:
        if self._all_runs and self._folder is not None:
            return journals_in(self._folder) if self._folder.is_dir() else []
        return [path for path in reversed(self._own) if path.is_file()]


def _plain(run: RunSummary) -> dict[str, Any]:
    """Returns a summary without the place of its file."""
    facts = dataclasses.asdict(run)
    del facts["path"]
    return facts


def _step(record: RunRecord, number: int) -> StepRecord:
    for step in record.all_steps:
        if step.number == number:
            return step
    raise InputError(f"The run has no step {number}. Its steps are 1 to {len(record.all_steps)}.")


def _dumped(step: StepRecord, chars: int) -> dict[str, Any]:
    return {
        "number": step.number,
        "reasoning": abridged(read_text(step.reasoning), chars),
        "code": abridged(read_text(step.code), chars),
        "output": abridged(read_text(step.shown), chars),
        "outcome": step.cell.outcome if step.cell else None,
        "sub_calls": len(step.sub_calls),
        "sub_runs": len(step.sub_runs),
    }


def _bounded(text: str) -> str:
    return abridged(text, MAX_CHARS)


def checked_action(action: str, actions: Sequence[str]) -> str:
    """Returns the action. Raises `CommandError` for one that does not exist."""
    if action in actions:
        return action
    raise CommandError(f"action must be one of {', '.join(actions)}, not {action!r:.50}.", USAGE)
