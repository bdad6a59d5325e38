"""`dspy_rlm.batch`: one RLM over many rows, with everything of a job around it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dspy
from filelock import FileLock, Timeout

from dspy_rlm.errors import InputError, JobError, SignatureError
from dspy_rlm.jobs.binding import bound, check_lms
from dspy_rlm.jobs.driver import Driver, JobOptions
from dspy_rlm.jobs.engine import Engine, Program, Row
from dspy_rlm.jobs.identity import FILE as IDENTITY_FILE
from dspy_rlm.jobs.identity import check_identity, identity_of
from dspy_rlm.jobs.job_journal import STATUSES, JobJournal
from dspy_rlm.jobs.local_engine import LocalEngine
from dspy_rlm.jobs.object_folder import ObjectFolder, is_object
from dspy_rlm.jobs.recorded_costs import prices_of
from dspy_rlm.jobs.results.job_report import FILE as REPORT_FILE
from dspy_rlm.jobs.results.job_report import FINISHED, INTERRUPTED, NO_MONEY, JobReport
from dspy_rlm.jobs.results.output import check_format, write_lance, write_result
from dspy_rlm.jobs.results.progress import Observer, observer_of
from dspy_rlm.jobs.rows import Key, Source, count_of, rows_of
from dspy_rlm.jobs.unfinished import Unfinished, spent_by_unfinished
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.limiting.quota import Rate
from dspy_rlm.rlm import RLM
from dspy_rlm.signatures.fields import may_be_missing
from sandbox_runtime.helpers import run_in_thread

# If none of so many first rows has an input, the columns have other names.
FIRST_ROWS = 8

# The module and the class of the engine on a cluster, in the extra of that name.
_RAY = ("dspy_rlm.ray.engine", "RayEngine")


def batch(
    rlm: RLM,
    rows: Source,
    *,
    out: str | os.PathLike[str],
    key: Key = None,
    engine: str | Engine = "local",
    concurrency: int | None = None,
    max_cost: float | None = None,
    rates: Mapping[str, Rate] | None = None,
    attempts: int = 2,
    resume: bool = True,
    retry_failed: bool = False,
    format: str = "jsonl",
    trajectories: bool = True,
    progress: Observer | bool | None = None,
) -> JobReport:
    """Runs an RLM over many rows. A row that fails is a row of the result, not an exception.

    Call it again with the same `out`, after a crash, Ctrl-C or the end of the money: rows that have ended are not run again, and
    those that were under way go on from their last answer, without paying for it twice.

    Args:
        rlm: The RLM.
        rows: Dicts with the inputs: an iterable of them, the path of a file of JSON lines or Parquet, a table or dataset of Arrow,
            or one of Ray, Daft, Polars or pandas. It is read lazily.
        out: The folder of the job: its journal, its result, its report. Or an address in object storage, such as `s3://bucket/name`
            (extra `objects`): each row is there before it counts as done.
        key: The column that names a row, or a function of the row. None: a digest of the inputs.
        engine: "local": in this process. "ray", or the address of a cluster: on Ray. Or an engine of your own.
        concurrency: Rows at the same time. None: as many as there are sandboxes.
        max_cost: US dollars for the whole job, earlier calls included. It is never exceeded, if the models have prices.
        rates: Requests and tokens per minute by model, named as in `dspy.LM`, for the whole job.
        attempts: Tries of a row whose LM cannot be reached, or whose process dies.
        resume: Go on with what is in `out`. False: it must be a new folder.
        retry_failed: Run rows again that failed in an earlier call.
        format: The result: "jsonl", "parquet" or "lance", with the same columns for every row.
        trajectories: Keep the steps of each row, in files beside the rows.
        progress: A function of each `JobProgress`, or True for a line on stderr. None: a line if stderr is a terminal.

    Returns:
        The report. Iterate over it for the rows.

    Raises:
        JobError: The job cannot begin, or every row would fail in the same way, or `max_cost` cannot be kept; says why. Its
            `report` has what there is.
        InputError: `rows` is no source of rows, or lacks an input of the signature.
        LMNotConfiguredError: There is no LM, or one has no key.
        PriceUnknownError: `max_cost` cannot be kept: the price of an LM is unknown.
        KeyboardInterrupt: Ctrl-C. All rows are stopped, and everything is kept; its `report` is that of the job so far.
    """
    stored = ObjectFolder(str(out)) if is_object(out) else None
    folder = _folder(out, stored, resume=resume)
    check_format(format)
    options = _checked(JobOptions(attempts, concurrency, retry_failed, trajectories))
    observer = observer_of(progress)
    program = Program(bound(rlm), dspy.settings.adapter, folder / "runs")
    check_lms(program.rlm, max_cost)
    worker = _engine(engine)
    names = list(program.rlm.signature.input_fields)
    source = _with_all_inputs(rows_of(rows, names, key), program.rlm)
    with _locked(folder), stored.claimed() if stored else contextlib.nullcontext():
        check_identity(folder, identity_of(program.rlm))
        if stored is not None:
            _send_identity(stored)
        journal = JobJournal(folder, stored.keep if stored else None)
        unfinished = spent_by_unfinished(folder / "runs", journal, prices_of(program.rlm))
        quota = JobQuota(rates, max_cost, _spent_before(journal, unfinished, max_cost))
        driver = Driver(
            *(source, count_of(rows), worker, program, journal, quota, options, observer),
            runs=folder / "runs",
        )
        began = time.monotonic()
        error: BaseException | None = None
        try:
            _run(driver.run)
        except BaseException as caught:  # noqa: BLE001 - raised again with the report
            error = caught
        try:
            journal.close()
        except OSError as failed:
            error = error or JobError(f"The journal of the job cannot be written: {failed}")
        if isinstance(error, KeyboardInterrupt):
            driver.stopped_by = INTERRUPTED
        elif error is not None:
            driver.stopped_by = f"{type(error).__name__}: {error}"
        result: str | None = None
        try:
            result = _written(journal, program, folder, stored, format)
        except OSError as failed:
            error = error or JobError(f"The result of the job cannot be written: {failed}")
        report = JobReport(
            out=stored.url if stored else str(folder),
            result=result,
            stopped_by=driver.stopped_by,
            counts={
                status: journal.totals.counts[status]
                for status in STATUSES
                if journal.totals.counts[status]
            },
            total=driver.total,
            skipped=driver.skipped,
            duplicates=driver.duplicates,
            unfinished=driver.unfinished,
            cost=quota.spent,
            cost_is_exact=quota.is_exact and journal.totals.is_exact and unfinished.is_exact,
            llm_calls=journal.totals.llm_calls,
            seconds=round(time.monotonic() - began, 3),
            errors=dict(driver.errors.most_common()),
            outputs=tuple(program.rlm.signature.output_fields),
        )
        report.save(folder)
        if stored is not None:
            try:
                stored.send_runs()
                stored.send(REPORT_FILE)
            except OSError as failed:
                error = error or JobError(f"The job cannot be written: {failed}")
    return _reported(report, error)


def _spent_before(journal: JobJournal, unfinished: Unfinished, max_cost: float | None) -> float:
    """Returns the US dollars of earlier processes.

    Raises:
        JobError: There is a limit, and nothing bounds what a row has cost.
    """
    unbounded = journal.totals.unbounded + unfinished.unbounded
    if max_cost is not None and unbounded:
        remedy = "Leave max_cost out, or begin in another folder."
        if unfinished.unbounded:
            remedy = f"Give the price of each model to the RLM by prices=. {remedy}"
        raise JobError(
            f"max_cost=${max_cost:g} cannot be kept: nothing says what {unbounded:,} row(s) of this folder have cost. {remedy}"
        )
    return max(journal.totals.cost + unfinished.cost, journal.totals.spent)


def _written(
    journal: JobJournal, program: Program, folder: Path, stored: ObjectFolder | None, form: str
) -> str:
    """Writes the result, and returns its place. Raises `OSError`."""
    signature = program.rlm.signature
    if stored is not None and form == "lance":
        stored.check()
        place = f"{stored.url}/rows.lance"
        write_lance(journal.rows(), signature, place)
        return place
    path = write_result(journal.rows(), signature, folder, form)
    if stored is None:
        return str(path)
    stored.send(path.name)
    return f"{stored.url}/{path.name}"


def _send_identity(stored: ObjectFolder) -> None:
    try:
        stored.send(IDENTITY_FILE)
    except OSError as error:
        raise JobError(f"The job cannot be written: {error}") from error


def _reported(report: JobReport, error: BaseException | None) -> JobReport:
    """Returns the report, or raises the reason for which the job could not go on."""
    if error is not None:
        with contextlib.suppress(AttributeError):
            error.report = report  # type: ignore[attr-defined]
        raise error
    if report.stopped_by not in (FINISHED, NO_MONEY):
        raise JobError(
            f"The job was stopped, because its other rows would fail in the same way: {report.stopped_by}. "
            f"{report.rows:,} rows have ended; call batch again with the same out to go on.",
            report=report,
        )
    return report


def _run(main: Callable[[], Any]) -> None:
    """Runs the driver on an event loop of its own: here, or in a thread if this thread has one that runs."""
    if _has_running_loop():
        run_in_thread(lambda: asyncio.run(main()), "rlm-job").result()
        return
    with asyncio.Runner() as runner:
        runner.run(_stopped_by_sigterm(main))


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _stopped_by_sigterm(main: Callable[[], Any]) -> None:
    """Runs the driver; SIGTERM, as Kubernetes sends it, stops it like Ctrl-C."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_main = threading.current_thread() is threading.main_thread()
    terminated = False

    def stop() -> None:
        nonlocal terminated
        terminated = True
        if task is not None:
            task.cancel()

    handles = is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if handles:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        await main()
    except asyncio.CancelledError:
        if terminated:
            raise KeyboardInterrupt("SIGTERM") from None
        raise
    finally:
        if handles:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(signal.SIGTERM)


def _folder(out: Any, stored: ObjectFolder | None, *, resume: bool) -> Path:
    """Returns the folder that the job reads and writes, created if it is new."""
    folder = stored.local if stored else Path(os.fspath(out)).expanduser().absolute()
    try:
        exists = stored.has_job() if stored else (folder / IDENTITY_FILE).exists()
    except OSError as error:
        raise JobError(f"The folder of the job cannot be read: {error}") from error
    if not resume and exists:
        raise JobError(
            f"{stored.url if stored else folder} has a job already. Go on with it by resume=True, or name another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise JobError(f"The folder {folder} cannot be created: {error}") from error
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(str(folder / ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise JobError(f"Another process works on the job in {folder}.") from None
    try:
        yield
    finally:
        lock.release()


def _checked(options: JobOptions) -> JobOptions:
    for name in ("attempts", "concurrency"):
        value = getattr(options, name)
        if value is not None and (type(value) is not int or value < 1):
            raise SignatureError(f"{name} must be a whole number, 1 or more, not {value!r}.")
    return dataclasses.replace(options)


def _engine(engine: str | Engine) -> Engine:
    if not isinstance(engine, str):
        return engine
    if engine == "local":
        return LocalEngine()
    if engine != "ray" and not engine.startswith(("ray://", "ray:")) and ":" not in engine:
        raise SignatureError(
            f'engine must be "local", "ray" or the address of a Ray cluster, not {engine!r}.'
        )
    try:
        importlib.import_module("ray")
        cls = getattr(importlib.import_module(_RAY[0]), _RAY[1])
    except ImportError as error:
        raise JobError(
            f'engine={engine!r} needs Ray: pip install "dspy-rlm[ray]" ({error}).'
        ) from error
    made: Engine = cls(None if engine == "ray" else engine)
    return made


def _with_all_inputs(rows: Iterator[Row], rlm: RLM) -> Iterator[Row]:
    """Returns the rows, after a look at the first ones.

    Raises:
        InputError: None of them has a certain input.
    """
    first = list(itertools.islice(rows, FIRST_ROWS))
    readable = [row for row in first if row.inputs or not row.problem]
    for name, field in rlm.signature.input_fields.items():
        if (
            readable
            and not may_be_missing(field)
            and not any(name in row.inputs for row in readable)
        ):
            raise InputError(
                f"None of the first {len(readable)} rows has the input {name!r} of the signature. "
                f"Name the columns as the inputs: {', '.join(rlm.signature.input_fields)}."
            )
    return itertools.chain(first, rows)
