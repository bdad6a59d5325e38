"""`Rows`: the runs of a job inside of a pipeline that another engine drives, such as `map_batches` of Ray Data, or Daft.

Such engines repeat whole batches when a process dies. So each row that has ended is in the journal of the job at once, and a batch
that is repeated first takes from there what it has: it costs nothing again. The folder must be on a file system that all
processes share. Knows no Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import dspy
from filelock import FileLock

from dspy_rlm.errors import JobError
from dspy_rlm.jobs.binding import bound, check_lms
from dspy_rlm.jobs.engine import Outcome, Program, Row, Verdict
from dspy_rlm.jobs.identity import check_identity, identity_of
from dspy_rlm.jobs.job_journal import JobJournal
from dspy_rlm.jobs.object_folder import is_object
from dspy_rlm.jobs.recorded_costs import prices_of, spent_by_run
from dspy_rlm.jobs.results.columns import arrow_schema, fitted, record_of_line
from dspy_rlm.jobs.row_run import forget_run, journal_of, run_row
from dspy_rlm.jobs.rows import Key, rows_of
from dspy_rlm.journal.lines import loaded
from dspy_rlm.limiting.job_quota import JobQuota
from sandbox_runtime.helpers import start_thread


class Rows:
    """Runs an RLM over the rows of batches. One object in each process of the pipeline; a failed run is a row.

    It has an event loop of its own: engines block theirs. Thread-safe.
    """

    def __init__(
        self,
        rlm: Any,
        *,
        out: str | os.PathLike[str],
        key: Key = None,
        concurrency: int | None = None,
        attempts: int = 2,
    ) -> None:
        """Gets ready. Called in the process of the worker.

        Args:
            rlm: The RLM. Its LMs read their keys from the environment.
            out: The folder of the job, on a file system that all workers share.
            key: The column that names a row, or a function of the row. None: a digest of the inputs.
            concurrency: Rows at the same time in this process; None: as many as there are sandboxes.
            attempts: A row that was there when so many processes died is given up. After the first it is tried alone.

        Raises:
            JobError: The folder has rows of another program, or is in object storage.
            LMNotConfiguredError: An LM has no key here.
        """
        if is_object(out):
            raise JobError(
                f"Rows needs a folder that all workers share, not {out}. `batch` takes an address in object storage."
            )
        folder = Path(out).absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._program = Program(bound(rlm), dspy.settings.adapter, folder / "runs")
        check_lms(self._program.rlm)
        with FileLock(str(folder / ".identity.lock")):
            check_identity(folder, identity_of(self._program.rlm))
        signature = self._program.rlm.signature
        self._inputs, self._outputs = list(signature.input_fields), list(signature.output_fields)
        self._key, self._attempts = key, attempts
        pool = self._program.rlm._config.lending_pool
        self._concurrency = concurrency or pool.max_sessions
        self._ended = EndedRows(folder / "journal")
        self._journal = JobJournal(folder)
        self._quota = JobQuota()
        self._lock = threading.Lock()  # one batch at a time
        self._loop = asyncio.new_event_loop()
        start_thread(self._loop.run_forever, "rlm-rows")

    def __call__(self, batch: Any) -> Any:
        """Returns the batch as an Arrow table, with the columns of the outcome beside its own.

        Args:
            batch: A dict of columns, an Arrow table or a pandas frame.
        """
        pa = import_module("pyarrow")
        table = _table(pa, batch)
        results = self.run(table.to_pylist())
        schema = arrow_schema(self._program.rlm.signature)
        columns = {
            name: table.column(name) for name in table.column_names if name not in schema.names
        }
        for field in schema:
            values = [_fitted(record.get(field.name), field.type) for record in results]
            columns[field.name] = pa.array(values, field.type)
        return pa.table(columns)

    def run(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns the outcomes of records, in their order: a dict each, with all columns.

        Raises:
            JobError: Every row would fail in the same way, such as for a wrong key.
        """
        with self._lock:
            work = self._run(list(records))
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def arun(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outcome of one record, for engines that call with one at a time."""
        work = self._one(record)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    # ---- On the loop ----

    async def _run(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        rows = list(rows_of(records, self._inputs, self._key))
        await asyncio.to_thread(self._ended.read)
        room = asyncio.Semaphore(self._concurrency)

        async def beside_others(row: Row) -> dict[str, Any]:
            async with room:
                return await self._row(row)

        by_key: dict[str, dict[str, Any]] = {}
        innocent = {row.key: row for row in rows if not self._ended.deaths[row.key]}
        ended = await asyncio.gather(*map(beside_others, innocent.values()))
        by_key.update(zip(innocent, ended, strict=True))
        for row in rows:  # those that were there when a process died, one after the other
            if row.key not in by_key:
                by_key[row.key] = await self._row(row)
        return [by_key[row.key] for row in rows]

    async def _one(self, record: Mapping[str, Any]) -> dict[str, Any]:
        (row,) = rows_of([record], self._inputs, self._key)
        await asyncio.to_thread(self._ended.read)
        return await self._row(row)

    async def _row(self, row: Row) -> dict[str, Any]:
        line = await asyncio.to_thread(self._ended.line, row.key)
        if line is None:
            line = await self._ran(row)
        return record_of_line(line, self._outputs)

    async def _ran(self, row: Row) -> dict[str, Any]:
        """Runs a row that has not ended, and writes its line."""
        deaths = self._ended.deaths[row.key]
        if deaths >= self._attempts:
            error = f"WorkerDiedError: its process died {deaths} times while it ran"
            amount = await asyncio.to_thread(self._recorded, row)
            outcome = Outcome("given_up", error=error, cost=amount, booked=amount)
            return await self._written(row, outcome, deaths)
        attempt = deaths
        while True:
            attempt += 1
            self._journal.begin(row.key, attempt)
            try:
                outcome = await run_row(self._program, row, self._quota)
            except asyncio.CancelledError:
                self._journal.leave(row.key)
                raise
            if outcome.verdict is Verdict.STOPS_JOB:
                self._journal.leave(row.key)
                raise JobError(f"Every other row would fail in the same way: {outcome.error}")
            if outcome.verdict is not Verdict.AGAIN or attempt >= self._attempts:
                return await self._written(row, outcome, attempt)

    def _recorded(self, row: Row) -> float | None:
        """Returns the money that the row's journal says was spent; None if nothing bounds it."""
        if self._program.runs is None:
            return 0.0
        path = journal_of(self._program.runs, row.key)
        return spent_by_run(path, prices_of(self._program.rlm))

    async def _written(self, row: Row, outcome: Outcome, attempts: int) -> dict[str, Any]:
        line = outcome.line(row, attempts)
        is_open = outcome.verdict is Verdict.AGAIN
        await self._journal.add(line, outcome.trajectory, again=is_open)
        if self._program.runs is not None and not is_open:
            await asyncio.to_thread(forget_run, self._program.runs, row.key)
        return line


class EndedRows:
    """The rows that have ended in any process of the job, and those that were begun and have not. Reads only what is new."""

    def __init__(self, journal: Path) -> None:
        """Reads nothing. `journal` is the folder with the parts of all processes."""
        self._folder = journal
        self._lock = threading.Lock()  # guards the fields below
        self._read_to: dict[Path, int] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self.deaths: Counter[str] = Counter()
        """The times that a row was begun, and neither ended nor left."""

    def read(self) -> None:
        """Reads what was written since the last time."""
        with self._lock:
            for path in sorted(self._folder.glob("*.jsonl")):
                self._read_part(path)

    def _read_part(self, path: Path) -> None:
        start = self._read_to.get(path, 0)
        with path.open("rb") as file:
            file.seek(start)
            for data in file:
                if not data.endswith(b"\n"):
                    break  # it is being written, or was torn
                self._take(path, start, data)
                start += len(data)
        self._read_to[path] = start

    def _take(self, path: Path, offset: int, data: bytes) -> None:
        line: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            line = loaded(data)
        if not isinstance(line, dict):
            return
        kind, key = line.get("e"), str(line.get("key"))
        if kind == "begin":
            self.deaths[key] += 1
        elif kind == "left":
            self.deaths[key] -= 1
        elif kind == "row":
            self.deaths.pop(key, None)
            if not line.get("again"):
                self._places[key] = path, offset

    def line(self, key: str) -> dict[str, Any] | None:
        """Returns the line of a row that has ended; None for any other."""
        with self._lock:
            place = self._places.get(key)
        if place is None:
            return None
        path, offset = place
        with path.open("rb") as file:
            file.seek(offset)
            line: dict[str, Any] = loaded(file.readline())
            return line


def _table(pa: Any, batch: Any) -> Any:
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, Mapping):
        return pa.table({name: pa.array(list(column)) for name, column in batch.items()})
    return pa.Table.from_pandas(batch, preserve_index=False)


def _fitted(value: Any, kind: Any) -> Any:
    """Returns a value as its column holds it; None for one that does not fit, which the journal has."""
    try:
        return fitted(value, kind)
    except ValueError:
        return None
