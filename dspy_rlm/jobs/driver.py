"""The driver of a job: feeds rows to an engine through a window, and writes what comes back into the journal.

Rows are read one after the other, as places in the window become free, so a job of any length takes the memory of its window.
A row ends once: with an answer, with an error, or given up. A row that is stopped before, by Ctrl-C or at the end of the money,
has not ended: a later call goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from dspy_rlm.errors import JobError
from dspy_rlm.jobs.engine import (
    Engine,
    Outcome,
    Program,
    Row,
    Verdict,
    WorkerDiedError,
    key_digest,
)
from dspy_rlm.jobs.job_journal import JobJournal
from dspy_rlm.jobs.recorded_costs import prices_of, spent_by_run
from dspy_rlm.jobs.results.job_report import FINISHED, NO_MONEY
from dspy_rlm.jobs.results.progress import JobProgress, Observer, ProgressLine
from dspy_rlm.jobs.row_run import clean, forget_run, journal_of
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.reports.report import added
from sandbox_runtime.helpers import DaemonPool

# The pause before another attempt at a row whose LM could not be reached; it doubles, up to a limit.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

# If so many rows in a row have failed because an LM could not be reached, the others would too.
LEAST_UNREACHED = 8

# The journals of rows that have ended are looked at after so many rows, and removed after this time.
CLEANED_ROWS = 500
CLEANED_AFTER_SECONDS = 10.0

# The last of them are removed after this time, which their last fsync takes.
LAST_SYNC_SECONDS = 0.3

# The reason for which a job with a limit stops at a row that nothing bounds.
NO_PRICE = (
    "nothing says what a call of theirs costs, so max_cost cannot be kept. Give the price of each model to the RLM by "
    "prices=, or leave max_cost out"
)

# An observer sees the progress at least so often.
TICK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """The settings of a job, checked."""

    attempts: int = 2
    """Tries of one row: of one whose LM cannot be reached, and of one that was there when a process died."""

    concurrency: int | None = None
    """Rows at the same time; None: as the engine has it."""

    retry_failed: bool = False
    """True if rows that failed in an earlier call are tried again."""

    trajectories: bool = True
    """True if the steps of the rows are kept."""


class Driver:
    """One call of a job. Used by one event loop."""

    def __init__(
        self,
        rows: Iterator[Row],
        total: int | None,
        engine: Engine,
        program: Program,
        journal: JobJournal,
        quota: JobQuota,
        options: JobOptions,
        observer: Observer | None = None,
        runs: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts nothing. `runs` is the folder with the journals of rows that are under way."""
        self.total = total
        self.stopped_by = FINISHED
        self.skipped = self.duplicates = self.unfinished = self.done = 0
        self.errors: Counter[str] = Counter()
        self._rows = self._left(rows)
        self._engine, self._program, self._journal = engine, program, journal
        self._quota, self._options, self._observer = quota, options, observer
        self._runs = runs
        self._clock = clock
        self._began = clock()
        self._active: set[str] = set()  # the keys of rows that were read and have not ended
        self._reader = DaemonPool(1, "rlm-rows", idle_seconds=None)
        self._is_stopping = False
        self._prices = prices_of(program.rlm)
        self._spent_by_rows = 0.0
        self._priced = 0  # the rows in that sum
        self._unreached = self._ended = 0
        self._running: dict[asyncio.Task[None], Row] = {}
        self._has_stopped = asyncio.Event()

    # ---- Rows ----

    def _left(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yields the rows that are to be run. Called in the thread that reads."""
        for row in rows:
            if row.key in self._active or self._journal.has_ended_here(row.key):
                self.duplicates += 1
            elif self._journal.is_done(row.key, retry_failed=self._options.retry_failed):
                self.skipped += 1
            else:
                self._active.add(row.key)
                yield row

    async def _next(self) -> Row | None:
        """Returns the next row, read in a thread: a source may wait for its storage."""
        return await self._reader.run(next, self._rows, None)

    # ---- The window ----

    async def run(self) -> None:
        """Runs all rows that are left, or as many as the money allows.

        Raises:
            JobError: Every row would fail in the same way, or the journal cannot be written.
            CancelledError: The caller has cancelled the call; all rows are stopped, and what they have is kept.
        """
        ticker = asyncio.create_task(self._tick())
        self._quota.on_refusal = self._stopper(NO_MONEY)
        try:
            await self._engine.start(self._program, self._quota)
            await self._feed()
        finally:
            ticker.cancel()
            await self._stop_rows()
            self._reader.close()
            await self._engine.close()
            with contextlib.suppress(OSError):  # a full disk, which is said where a row ends
                self._journal.note_spent(self._spent)
            if self._ended and self._runs is not None and self._runs.exists():
                await asyncio.sleep(LAST_SYNC_SECONDS)
                await asyncio.to_thread(clean, self._runs)
            self._show(last=True)

    async def _feed(self) -> None:
        next_row: asyncio.Task[Row | None] | None = None
        problem: BaseException | None = None
        is_at_end = False
        try:
            while True:
                if self._is_stopping:
                    if not self._running:
                        return
                elif not is_at_end and next_row is None and len(self._running) < self._window:
                    next_row = asyncio.create_task(self._next())
                waits_for_money = next_row is not None and next_row.done() and not self._has_money()
                if next_row is not None and next_row.done() and not self._is_stopping:
                    if not waits_for_money:
                        finished, next_row = next_row, None
                        problem = finished.exception()
                        row = None if problem else finished.result()
                        if (
                            row is None
                        ):  # the rows that run end as always, also if the source has failed
                            is_at_end = True
                        else:
                            self._start(row)
                        continue
                    if not self._running:
                        self.stopped_by, self._is_stopping = NO_MONEY, True
                        continue
                if is_at_end and not self._running:
                    if problem is not None:
                        raise problem
                    return
                pending = {
                    *self._running,
                    *([next_row] if next_row and not next_row.done() else []),
                }
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in self._running if task.done()]:
                    del self._running[task]
                    task.result()
        finally:
            if next_row is not None:
                next_row.cancel()

    @property
    def _window(self) -> int:
        return max(self._options.concurrency or self._engine.concurrency, 1)

    def _start(self, row: Row) -> None:
        self._running[asyncio.create_task(self._run_row(row))] = row

    def _has_money(self) -> bool:
        """Returns whether one more row fits beside those that run, if it costs as much as those before."""
        most, expected = self._quota.max_cost, self._row_cost
        if most is None or expected is None:
            return True
        # What the rows that run have spent is counted twice: rather too careful than a row that is begun in vain.
        return self._quota.spent + (len(self._running) + 1) * expected <= most

    @property
    def _row_cost(self) -> float | None:
        """The cost that a row is expected to have; None if nothing is known."""
        return self._spent_by_rows / self._priced if self._priced else None

    # ---- One row ----

    async def _run_row(self, row: Row) -> None:
        """Runs a row until it has ended, whatever it takes."""
        tries = self._options.attempts
        past = self._journal.totals
        deaths = attempt = past.deaths[row.key]
        alone = deaths > 0 or row.key in past.suspects
        try:
            money = _RowMoney(self._journal.amount_of(key_digest(row.key)))
            if self._has_run(row):
                money.book(await self._recorded(row))
            while True:
                if deaths >= tries:
                    await self._give_up(row, deaths, attempt, money.total)
                    return
                attempt += 1
                self._journal.begin(row.key, attempt)
                money.begin(goes_on=self._has_run(row))
                try:
                    outcome = await self._engine.run(row, alone=alone)
                except WorkerDiedError:
                    self._journal.died(row.key)
                    deaths, alone = deaths + 1, True
                    if self._has_run(row):
                        money.book(await self._recorded(row))
                    continue
                money.book(outcome.amount)
                if outcome.verdict is Verdict.AGAIN and attempt < tries and not self._is_stopping:
                    await self._pause(attempt)
                    continue
                if outcome.verdict in (Verdict.UNFINISHED, Verdict.STOPS_JOB):
                    self._leave(row)
                    reason = NO_MONEY if outcome.verdict is Verdict.UNFINISHED else outcome.error
                    self._stopper(reason)()
                    return
                if money.total is None and self._quota.limits_cost:
                    self._leave(row)
                    self._stopper(NO_PRICE)()
                    return
                await self._end(row, outcome, attempt, money.total)
                return
        except asyncio.CancelledError:
            self._leave(row)
            raise
        except OSError as error:
            raise JobError(f"The journal of the job cannot be written: {error}") from error

    @property
    def _spent(self) -> float:
        """The US dollars of the whole job; 0 without a limit, as nothing bounds its calls."""
        return self._quota.spent if self._quota.limits_cost else 0.0

    def _has_run(self, row: Row) -> bool:
        """Returns whether a row has a journal, from which its next attempt goes on."""
        return self._runs is not None and journal_of(self._runs, row.key).exists()

    async def _recorded(self, row: Row) -> float | None:
        """Returns the money that the row's journal says was spent; None if nothing bounds it."""
        path = journal_of(cast("Path", self._runs), row.key)
        return await asyncio.to_thread(spent_by_run, path, self._prices)

    async def _give_up(self, row: Row, deaths: int, attempts: int, amount: float | None) -> None:
        """Ends a row whose processes died, with the money that it has spent."""
        error = f"WorkerDiedError: its process died {deaths} times while it ran"
        outcome = Outcome("given_up", error=error, cost=amount, booked=amount)
        await self._end(row, outcome, attempts, amount)

    async def _end(self, row: Row, outcome: Outcome, attempts: int, amount: float | None) -> None:
        """Writes a row that has ended, and forgets what would be needed to go on with it."""
        again = outcome.verdict is Verdict.AGAIN
        line = {**outcome.line(row, attempts), "booked": amount, "spent": self._spent}
        steps = outcome.trajectory if self._options.trajectories else None
        await self._journal.add(line, steps, again=again)
        if self._runs is not None and not again:
            forget_run(self._runs, row.key)
            self._ended += 1
            if self._ended % CLEANED_ROWS == 0:
                await asyncio.to_thread(clean, self._runs, CLEANED_AFTER_SECONDS)
        self._active.discard(row.key)
        self.done += 1
        if amount is not None:
            self._spent_by_rows += amount
            self._priced += 1
        if outcome.error:
            self.errors[outcome.error.partition(":")[0]] += 1
        self._unreached = self._unreached + 1 if again else 0
        if self._unreached >= max(LEAST_UNREACHED, self._window):
            self._stopper(f"an LM that could not be reached: {outcome.error}")()
        self._show()

    def _leave(self, row: Row) -> None:
        self.unfinished += 1
        with contextlib.suppress(OSError):
            self._journal.leave(row.key)

    async def _pause(self, attempt: int) -> None:
        seconds = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_stopped.wait(), seconds)

    # ---- The end ----

    def _stopper(self, reason: str) -> Callable[[], None]:
        """Returns a function that lets no further row begin; those that run end at their next call. For any thread."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if not self._is_stopping:
                self._is_stopping, self.stopped_by = True, reason
                self._has_stopped.set()
                self._quota.close()

        return functools.partial(_soon, loop, stop)

    async def _stop_rows(self) -> None:
        """Cancels the rows that still run, and waits until each has said so."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()

    # ---- Progress ----

    def progress(self) -> JobProgress:
        """Returns the state of the job."""
        return JobProgress(
            done=self.done,
            skipped=self.skipped,
            total=self.total,
            running=len(self._running),
            counts=dict(self._journal.totals.counts),
            cost=self._quota.spent,
            max_cost=self._quota.max_cost,
            seconds=self._clock() - self._began,
            row_cost=self._row_cost,
        )

    def _show(self, *, last: bool = False) -> None:
        if self._observer is None:
            return
        if last and isinstance(self._observer, ProgressLine):
            self._observer.finish(self.progress())
        else:
            self._observer(self.progress())

    async def _tick(self) -> None:
        while self._observer is not None:
            await asyncio.sleep(TICK_SECONDS)
            self._show()


class _RowMoney:
    """The money of one row, over all its attempts. No I/O."""

    def __init__(self, total: float | None) -> None:
        """`total` is what the row had taken when it ended for now; 0 for a new one, None if nothing bounds it."""
        self.total = total
        self._before: float | None = 0.0

    def begin(self, *, goes_on: bool) -> None:
        """Begins an attempt. With `goes_on`, its amounts include those of the attempts before."""
        if not goes_on:
            self._before = self.total

    def book(self, amount: float | None) -> None:
        """Books what the present attempt has taken so far. The total never shrinks."""
        total = added(self._before, amount)
        self.total = total if self.total is None or total is None else max(self.total, total)


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the job has ended
        loop.call_soon_threadsafe(work)
