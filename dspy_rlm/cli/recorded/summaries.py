"""Summaries of journals: of one run in a line, and of many runs together. Imports no DSPy."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from dspy_rlm.journal import JournalError, load
from dspy_rlm.journal.file import try_lock
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.reports.report import added

# The status of a run whose journal has no end: its process was killed, or works on it.
CRASHED, RUNNING = "crashed", "running"


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """One run."""

    path: str
    run_id: str
    started_at: str
    status: str
    """The status of the report, or `crashed` or `running`; `unreadable` for a file that is not a journal."""

    stopped_by: str = ""
    steps: int = 0
    llm_calls: int = 0
    """LM calls that were sent, those of the root LM too."""

    cached: int = 0
    tokens: int | None = 0
    """None: a call did not report them."""

    cost: float | None = 0.0
    """US dollars; None: the price of a call is unknown."""

    seconds: float | None = None
    signature: str = ""
    models: tuple[str, ...] = ()
    problem: str = ""
    """The reason why it cannot be read."""


def summary_of(path: Path) -> RunSummary:
    """Returns the summary of a journal, also of a damaged one."""
    try:
        record = load(path)
    except (JournalError, OSError) as error:
        return RunSummary(str(path), path.stem, "", "unreadable", problem=str(error))
    return _of(record, path)


def _of(record: RunRecord, path: Path) -> RunSummary:
    sent = cached = 0
    tokens: Any = 0
    cost: Any = 0.0
    models: dict[str, None] = {}
    for call in record.calls():
        models[call.model] = None
        for attempt in call.attempts:
            if attempt.cached:
                cached += 1
                continue
            sent += 1
            tokens = added(tokens, added(attempt.input_tokens, attempt.output_tokens))
            cost = added(cost, attempt.cost)
    ended = record.ended or {}
    status = str(ended.get("status", "")) or (RUNNING if is_running(path) else CRASHED)
    seconds = ended.get("seconds")
    return RunSummary(
        str(path),
        record.run_id,
        record.started_at.isoformat(timespec="seconds"),
        status,
        str(ended.get("stopped_by", "")),
        len(record.steps),
        sent,
        cached,
        tokens,
        cost,
        float(seconds) if isinstance(seconds, (int, float)) else None,
        signature_text(record),
        tuple(models),
    )


def signature_text(record: RunRecord) -> str:
    """Returns the signature of a run in one line."""
    sides = (record.signature.inputs, record.signature.outputs)
    inputs, outputs = (", ".join(f"{one.name}: {one.annotation}" for one in side) for side in sides)
    return f"{inputs} -> {outputs}"


def is_running(path: Path) -> bool:
    """Returns whether a process writes the journal."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not try_lock(handle)
    finally:
        os.close(handle)


def statistics(runs: Sequence[RunSummary]) -> dict[str, Any]:
    """Returns the totals of many runs, as plain data."""
    readable = [run for run in runs if run.status != "unreadable"]
    return {
        "runs": len(readable),
        "unreadable": len(runs) - len(readable),
        "by_status": dict(Counter(run.status for run in readable)),
        "by_end": dict(Counter(run.stopped_by for run in readable if run.stopped_by)),
        "steps": _spread(run.steps for run in readable),
        "llm_calls": _spread(run.llm_calls for run in readable),
        "seconds": _spread(run.seconds for run in readable if run.seconds is not None),
        "tokens": _total(run.tokens for run in readable),
        "cost": _total(run.cost for run in readable),
        "cost_unknown": sum(run.cost is None for run in readable),
        "models": dict(Counter(model for run in readable for model in run.models)),
    }


def _spread(values: Iterable[float]) -> dict[str, float]:
    known = list(values)
    if not known:
        return {}
    return {"total": sum(known), "median": median(known), "most": max(known)}


def _total(values: Iterable[Any]) -> Any:
    """Returns the sum of the known values."""
    return sum(value for value in values if value is not None)
