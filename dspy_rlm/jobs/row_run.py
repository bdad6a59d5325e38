"""One attempt at one row: whatever happens becomes an `Outcome`. Every engine runs its rows through `run_row`.

While a row is under way, its run has a journal of its own. A row that was interrupted, by a crash or at the end of the money,
goes on from there: what was answered is not paid again.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from dspy_rlm.errors import InputError, JobStoppedError, RunPausedError
from dspy_rlm.jobs.engine import Outcome, Program, Row, Verdict, key_digest
from dspy_rlm.jobs.recorded_costs import prices_of, spent_by_run
from dspy_rlm.journal.errors import JournalError
from dspy_rlm.limiting.quota import SETTING, Quota, UnpricedError
from dspy_rlm.limiting.row_quota import RowQuota
from dspy_rlm.lms.faults import is_passing, is_permanent
from dspy_rlm.reports.report import RunReport, added
from sandbox_runtime import SandboxDiedError, SandboxStartError

# The beginning of the names of folders of rows that have ended.
ENDED = "ended-"

# The longest text of an error in a row.
MAX_ERROR_CHARS = 2_000


async def run_row(program: Program, row: Row, quota: Quota) -> Outcome:
    """Runs a row, or goes on with it. Raises nothing but cancellations.

    Args:
        program: What it is run with.
        row: The row.
        quota: The rates and the money of the job, as this process reaches them.
    """
    if row.problem:
        return Outcome("failed", error=row.problem)
    began, before, own = time.monotonic(), await _spent_before(program, row), RowQuota(quota)
    try:
        with _settings(program, own):
            prediction = await _predicted(program, row)
    except Exception as error:  # noqa: BLE001 - a failed run is a row
        booked = added(before, own.booked)
        return _failed(error, program, time.monotonic() - began, booked)
    outputs = {name: prediction[name] for name in program.rlm.signature.output_fields}
    return dataclasses.replace(_outcome(prediction.run, outputs), booked=added(before, own.booked))


async def _spent_before(program: Program, row: Row) -> float | None:
    """Returns the money in the row's journal, if it has one; None if a part of it has no bound."""
    if program.runs is None or not (path := journal_of(program.runs, row.key)).exists():
        return 0.0
    return await asyncio.to_thread(spent_by_run, path, prices_of(program.rlm))


async def _predicted(program: Program, row: Row) -> dspy.Prediction:
    """Runs the row, or goes on with its run if it has a journal."""
    rlm = program.rlm
    if program.runs is None:
        return await rlm.acall(**row.inputs)
    path = journal_of(program.runs, row.key)
    if path.exists():
        with contextlib.suppress(JournalError, InputError):  # of other inputs, or torn at its start
            return await rlm.aresume(path, **row.inputs)
        forget_run(program.runs, row.key)
    recorded = copy.copy(rlm)
    recorded._config = dataclasses.replace(rlm._config, journal=str(path))
    return await recorded.acall(**row.inputs)


@contextlib.contextmanager
def _settings(program: Program, quota: Quota) -> Iterator[None]:
    """Sets DSPy's settings for a row. Without a history: DSPy keeps 10,000 entries, each with a whole prompt."""
    settings: dict[str, Any] = {SETTING: quota, "disable_history": True}
    if program.adapter is not None:
        settings["adapter"] = program.adapter
    with dspy.context(**settings):
        yield


def _outcome(
    run: RunReport, outputs: Any, error: str = "", verdict: Verdict = Verdict.FINAL
) -> Outcome:
    return Outcome(
        run.status,
        to_jsonable_python(dict(outputs), fallback=str, serialize_unknown=True),
        error,
        cost=run.cost if run.cost is not None else run.cost_at_most,
        llm_calls=run.llm_calls,
        iterations=run.iterations,
        seconds=run.seconds,
        trajectory=tuple(run.trajectory),
        verdict=verdict,
    )


def _failed(error: Exception, program: Program, seconds: float, booked: float | None) -> Outcome:
    text = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]
    run: RunReport | None = getattr(error, "run", None)
    verdict = _verdict(error)
    if run is None:
        return Outcome(
            "failed", error=text, cost=booked, booked=booked, seconds=seconds, verdict=verdict
        )
    names = program.rlm.signature.output_fields
    outputs = {name: run.partial_outputs.get(name) for name in names}
    return dataclasses.replace(_outcome(run, outputs, text, verdict), booked=booked)


def _verdict(error: Exception) -> Verdict:
    """Returns what an exception means for the row, by itself and its causes."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(one, UnpricedError) for one in causes):
        return Verdict.STOPS_JOB
    if any(isinstance(one, JobStoppedError) for one in causes):
        return Verdict.UNFINISHED
    if any(is_permanent(one) for one in causes):
        return Verdict.STOPS_JOB
    again = (RunPausedError, SandboxDiedError, SandboxStartError)
    if any(isinstance(one, again) or is_passing(one) for one in causes):
        return Verdict.AGAIN
    return Verdict.FINAL


# ---- The journals of runs in progress ----


def journal_of(runs: Path, key: str) -> Path:
    """Returns the journal of a row that is under way. In a folder of its own, with the values beside it."""
    return runs / key_digest(key).hex() / "run.jsonl"


def forget_run(runs: Path, key: str) -> None:
    """Marks the journal of a row that has ended. `clean` removes it later: a thread may still call fsync for it."""
    folder = journal_of(runs, key).parent
    with contextlib.suppress(OSError):
        folder.rename(folder.with_name(f"{ENDED}{folder.name}-{time.time_ns()}"))


def clean(runs: Path, older_than: float = 0.0) -> None:
    """Removes the journals of rows that have ended so many seconds ago, and the folder if nothing else is in it."""
    latest = time.time_ns() - int(older_than * 1e9)
    for folder in runs.glob(f"{ENDED}*"):
        if int(folder.name.rpartition("-")[2]) <= latest:
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        runs.rmdir()
