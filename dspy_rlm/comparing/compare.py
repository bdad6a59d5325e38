"""`dspy_rlm.compare`: several systems on the same items; or, of two paths, the first difference of two recorded runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, overload

import dspy
from filelock import FileLock, Timeout

from dspy_rlm.budget.budget import Budget
from dspy_rlm.comparing.advice import MARGIN
from dspy_rlm.comparing.items import Metric, source_of
from dspy_rlm.comparing.measuring import measure
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.rows import Row, RowFile, last_rows, read_all_rows
from dspy_rlm.comparing.running import Job, Purse, run_jobs
from dspy_rlm.comparing.systems import models_of, setup_of, systems_of
from dspy_rlm.errors import InputError
from dspy_rlm.replaying.compare import Comparison
from dspy_rlm.replaying.compare import compare as compare_runs

AnyPath = str | os.PathLike[str]


@overload
def compare(task_or_examples: AnyPath, systems: AnyPath) -> Comparison: ...


@overload
def compare(
    task_or_examples: Any,
    systems: Mapping[str, Any] | Iterable[str],
    metric: Metric | None = None,
    *,
    signature: Any = None,
    file: AnyPath | None = None,
    threads: int = 4,
    max_cost: float | None = None,
    max_seconds: float | None = None,
    prices: Mapping[str, tuple[float, float]] | None = None,
    length: Callable[[Mapping[str, Any]], int] | None = None,
    margin: float = MARGIN,
    seed: int = 0,
    on_row: Callable[[Row], object] | None = None,
) -> ComparisonResult: ...


def compare(
    task_or_examples: Any,
    systems: Any,
    metric: Metric | None = None,
    *,
    signature: Any = None,
    file: AnyPath | None = None,
    threads: int = 4,
    max_cost: float | None = None,
    max_seconds: float | None = None,
    prices: Mapping[str, tuple[float, float]] | None = None,
    length: Callable[[Mapping[str, Any]], int] | None = None,
    margin: float = MARGIN,
    seed: int = 0,
    on_row: Callable[[Row], object] | None = None,
) -> Any:
    """Runs systems on the same items, and returns scores, costs and times with intervals and a recommendation.

    With two paths of journals it compares these: it returns where two recorded runs part.

    Args:
        task_or_examples: A task of `dspy_rlm.tasks`, or `dspy.Example`s that say which of their fields are inputs.
        systems: By name, modules, functions, or classes that take a signature, such as `dspy.Predict`; or names of
            ready-made systems: "rlm", "direct", "chain-of-thought", "retrieval", "compaction", "dspy.RLM".
        metric: A function of the example and the prediction that returns a score. A task has its own.
        signature: The signature for classes and names; that of the task by default, else that of the first module.
        file: Where rows are kept. The same call goes on with the rows that are missing, and with those in which a server
            failed; a row counts for the settings that it was measured with.
        threads: Rows at once.
        max_cost: US dollars of all rows, those of earlier calls with the same file too, also where an item was measured again.
            No row begins that is likely to exceed it, and none after one of unknown cost.
        max_seconds: Wall time after which no row begins. Those in flight are waited for.
        prices: US dollars per million tokens of prompts and of replies, by model, where DSPy knows none.
        length: A function of the inputs that returns their tokens; by default characters are counted, four a token.
        margin: A system counts as as good as the best one if with 95 % confidence it is worse by no more than this.
        seed: For the bootstrap.
        on_row: Called with each row as it ends.

    Raises:
        InputError: The items, the systems or the file cannot be used. Failures of a system are rows, no exceptions.
        SignatureError: A price is invalid.
    """
    if isinstance(task_or_examples, (str, os.PathLike)) and isinstance(systems, (str, os.PathLike)):
        return compare_runs(task_or_examples, systems)
    if threads < 1:
        raise InputError("threads must be 1 or more.")
    source = source_of(task_or_examples, signature, length)
    metric = metric or source.metric
    if metric is None:
        raise InputError(
            "Pass metric=, a function of an example and a prediction that returns a score."
        )
    named = systems_of(systems, source.signature, source.tools)
    setups = {one.name: setup_of(one.call, metric) for one in named}
    budget = Budget(prices=prices)
    jobs = [Job(one, setups[one.name], item) for item in source.items for one in named]
    rows: dict[tuple[str, str, str], Row] = {}
    purse = Purse(max_cost)
    with _opened(file) as (earlier, record):
        for row in earlier:
            purse.book(row)
        rows.update((row.key, row) for row in last_rows(earlier) if not row.is_of_server)
        missing = [job for job in jobs if _key(job) not in rows]

        def keep(row: Row) -> None:
            rows[row.key] = row
            record([row])
            if on_row is not None:
                on_row(row)

        stopped = run_jobs(
            missing,
            lambda job: measure(job.system, job.setup, job.item, metric, budget),
            purse,
            threads=threads,
            max_seconds=max_seconds,
            on_row=keep,
        )
    return ComparisonResult(
        tuple(one.name for one in named),
        tuple(rows[_key(job)] for job in jobs if _key(job) in rows),
        len(source.items),
        source.name,
        getattr(metric, "__name__", type(metric).__name__),
        stopped,
        margin,
        seed,
        models_of(named, dspy.settings.lm),
    )


def _key(job: Job) -> tuple[str, str, str]:
    return job.item.key, job.system.name, job.setup


@contextlib.contextmanager
def _opened(file: AnyPath | None) -> Iterator[tuple[list[Row], Callable[[Iterable[Row]], None]]]:
    """Yields all rows of a file and the function that adds some. No other process can use the file meanwhile."""
    if file is None:
        yield [], lambda _: None
        return
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"Another process is writing {path}. Wait for it, or name another file."
        ) from error
    try:
        earlier = read_all_rows(path)
        rows = RowFile(path)
        try:
            yield earlier, rows.add
        finally:
            rows.close()
    finally:
        lock.release()
