"""The driver of a job: the window, the attempts, the money, the end. Its engine is a function."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from pathlib import Path

import dspy
import pytest

import dspy_rlm
from dspy_rlm import JobError
from dspy_rlm.jobs import driver as drivers
from dspy_rlm.jobs.engine import Outcome, Verdict, WorkerDiedError
from dspy_rlm.jobs.job_journal import JobJournal
from tests.jobs.fake_engine import FakeEngine


@pytest.fixture
def rlm():
    """An RLM that is never run: the engine is a fake."""
    rlm = dspy_rlm.RLM("text: str -> answer: str")
    rlm.set_lm(dspy.LM("openai/gpt-4o-mini", api_key="x"))
    return rlm


@pytest.fixture
def run(rlm, tmp_path):
    """Runs a job over so many rows, or over these."""

    def run(rows, engine=None, **options):
        if isinstance(rows, int):
            rows = [{"id": i, "text": f"row {i}"} for i in range(rows)]
        options = {"key": "id", "out": tmp_path / "job", "progress": False, **options}
        return dspy_rlm.batch(rlm, rows, engine=engine or FakeEngine(), **options)

    return run


def outcome(status="submitted", verdict=Verdict.FINAL, **fields):
    """An outcome with a cost."""
    return Outcome(status, {"answer": "x"}, verdict=verdict, **{"cost": 0.01, **fields})


class TestWindow:
    def test_all_rows_run_once(self, run):
        """In any order, so many at a time as the engine has room for."""
        together = asyncio.Barrier(3)

        async def work(row, **_):
            await together.wait()
            return outcome()

        engine = FakeEngine(work, concurrency=3)
        report = run(21, engine)

        assert Counter(engine.ran) == Counter(str(i) for i in range(21))
        assert engine.most == 3
        assert report.counts == {"submitted": 21}
        assert report.ok
        assert engine.closed

    def test_the_caller_can_set_the_window(self, run):
        """`concurrency` is that of the job."""
        engine = FakeEngine(concurrency=8)

        run(20, engine, concurrency=2)

        assert engine.most <= 2

    def test_rows_are_read_as_there_is_room(self, run):
        """A source of any length takes the memory of the window: nothing is read ahead but one row."""
        read, ended, ahead = [], [], []

        def rows():
            for i in range(200):
                read.append(i)
                ahead.append(len(read) - len(ended))
                yield {"id": i, "text": "x"}

        def work(row, **_):
            ended.append(row.key)
            return outcome()

        run(rows(), FakeEngine(work, concurrency=4))

        assert len(read) == 200
        # Those that run, those whose end is being written, the next one, and the first ones, which are looked at.
        assert max(ahead[20:]) <= 4 + 4 + 1

    def test_a_source_that_fails_ends_the_job_and_keeps_the_rows(self, run, tmp_path):
        """Its exception is that of the call."""

        def rows():
            for i in range(12):
                yield {"id": i, "text": "x"}
            raise OSError("the share is gone")

        with pytest.raises(OSError, match="the share is gone") as caught:
            run(rows())

        assert caught.value.report.rows == len(JobJournal(tmp_path / "job")) == 12

    def test_rows_with_one_key_are_run_once(self, run):
        """The first one counts, whether it runs or has ended."""
        report = run([{"id": i % 5, "text": f"{i}"} for i in range(20)])

        assert report.rows == 5
        assert report.duplicates == 15


class TestResuming:
    def test_rows_that_have_ended_are_not_run_again(self, run):
        """Also in another call, with more rows."""
        run(5)
        engine = FakeEngine()

        report = run(8, engine)

        assert sorted(engine.ran) == ["5", "6", "7"]
        assert (report.skipped, report.rows) == (5, 8)

    def test_a_new_folder_can_be_demanded(self, run):
        """`resume=False` mixes nothing by mistake."""
        run(2)

        with pytest.raises(JobError, match="has a job already"):
            run(2, resume=False)

    def test_another_program_is_refused(self, run, rlm):
        """Its rows would be mixed with those of this one; the message says what differs."""
        run(2)
        rlm.generate_action.signature = rlm.generate_action.signature.with_instructions("Be brief.")

        with pytest.raises(JobError, match=r"rows of another program(.|\n)*state:"):
            run(3)

    @pytest.mark.parametrize("change", ["signature", "models"])
    def test_the_difference_is_named(self, run, rlm, tmp_path, change):
        """A signature, or an LM."""
        run(2)
        other = dspy_rlm.RLM(
            "text: str -> answer: str" + (", more: int" if change == "signature" else "")
        )
        other.set_lm(
            dspy.LM("openai/gpt-4o" if change == "models" else "openai/gpt-4o-mini", api_key="x")
        )

        with pytest.raises(JobError, match=f"{change}:"):
            dspy_rlm.batch(other, [], out=tmp_path / "job", engine=FakeEngine())

    def test_two_processes_do_not_work_on_one_job(self, run):
        """The second one would run the same rows."""
        inner = []

        def work(row, **_):
            with pytest.raises(JobError, match="Another process works on the job"):
                run(1)
            inner.append(row.key)
            return outcome()

        def threaded(row, **_):
            return asyncio.to_thread(work, row)

        run(1, FakeEngine(threaded))
        assert inner == ["0"]

    def test_failed_rows_are_run_again_on_request(self, run):
        """And counted once."""
        bad = {"1", "3"}
        run(5, FakeEngine(lambda row, **_: outcome("failed" if row.key in bad else "submitted")))
        engine = FakeEngine()

        assert run(5).counts == {"submitted": 3, "failed": 2}
        report = run(5, engine, retry_failed=True)

        assert sorted(engine.ran) == ["1", "3"]
        assert report.counts == {"submitted": 5}
        assert report.cost == pytest.approx(0.07)


class TestAttempts:
    @pytest.fixture(autouse=True)
    def _no_pauses(self, monkeypatch):
        monkeypatch.setattr(drivers, "FIRST_PAUSE_SECONDS", 0.0)

    def test_a_row_whose_lm_was_away_is_tried_again(self, run):
        """Once more by default."""
        tries = Counter()

        def work(row, **_):
            tries[row.key] += 1
            return outcome("failed", Verdict.AGAIN) if tries[row.key] < 2 else outcome()

        report = run(3, FakeEngine(work))

        assert report.counts == {"submitted": 3}
        assert {row["attempts"] for row in report} == {2}

    def test_a_row_takes_what_all_its_attempts_have_taken(self, run, tmp_path):
        """Also of an engine without journals of runs, where each attempt begins anew."""
        verdicts = iter((Verdict.AGAIN, Verdict.FINAL))

        def work(row, **_):
            return outcome(verdict=next(verdicts))

        report = run(1, FakeEngine(work), max_cost=1.0)

        assert report.cost == pytest.approx(0.02)
        assert JobJournal(tmp_path / "job").totals.cost == pytest.approx(0.02)

    def test_after_all_attempts_it_fails_for_now(self, run):
        """A later call tries it again by itself: the row is not to blame."""
        away = {"1"}

        def work(row, **_):
            return outcome("failed", Verdict.AGAIN) if row.key in away else outcome()

        assert run(3, FakeEngine(work), attempts=3).counts == {"submitted": 2, "failed": 1}
        away.clear()
        engine = FakeEngine(work)

        assert run(3, engine).counts == {"submitted": 3}
        assert engine.ran == ["1"]

    def test_a_server_that_stays_away_stops_the_job(self, run, tmp_path):
        """A million rows must not fail one after the other because a server is down."""
        engine = FakeEngine(
            lambda row, **_: outcome("failed", Verdict.AGAIN, error="LMServerError: down")
        )

        with pytest.raises(JobError, match="could not be reached: LMServerError: down") as caught:
            run(1000, engine)

        assert len(set(engine.ran)) < 30
        assert caught.value.report.counts["failed"] >= drivers.LEAST_UNREACHED

    def test_what_every_row_would_meet_stops_the_job(self, run, tmp_path):
        """A wrong key is no failure of a row; no row is written as failed."""
        engine = FakeEngine(
            lambda row, **_: outcome("failed", Verdict.STOPS_JOB, error="LMAuthError: no")
        )

        with pytest.raises(JobError, match="LMAuthError: no") as caught:
            run(100, engine)

        assert caught.value.report.rows == 0
        assert len(engine.ran) <= 8
        assert len(JobJournal(tmp_path / "job")) == 0


class TestDeaths:
    def test_rows_of_a_dead_worker_are_tried_again_alone(self, run):
        """Only one of them is the reason, and only that one is given up."""

        def work(row, alone):
            if row.key == "2" or (not alone and int(row.key) < 4):
                raise WorkerDiedError("gone")
            return outcome()

        engine = FakeEngine(work)
        report = run(8, engine)

        assert report.counts == {"submitted": 7, "given_up": 1}
        assert set(engine.alone) == {"0", "1", "2", "3"}
        assert Counter(engine.ran)["2"] == 2
        [row] = [row for row in report if row["status"] == "given_up"]
        assert row["error"] == "WorkerDiedError: its process died 2 times while it ran"

    def test_rows_of_a_dead_driver_are_tried_again_alone(self, run, tmp_path):
        """Its death may have had another reason, so it is no attempt."""
        journal = JobJournal(tmp_path / "job")
        for _ in range(5):
            journal.begin("1", 1)
        journal.close()
        engine = FakeEngine()

        assert run(3, engine).counts == {"submitted": 3}
        assert engine.alone == ["1"]


class TestMoney:
    def test_no_row_begins_that_does_not_fit(self, run):
        """It would be cut in the middle. The report says why the job ended, and the next call goes on."""

        engine = FakeEngine(lambda row, **_: outcome(), concurrency=1)
        report = run(100, engine, max_cost=0.105)

        assert report.stopped_by == "max_cost"
        assert report.rows == 10
        assert report.cost <= 0.105
        assert not report.ok

        assert run(100, FakeEngine(concurrency=1), max_cost=0.205).rows == 20

    def test_a_refused_call_stops_the_job(self, run, tmp_path):
        """The rows that run end at their next call, and go on when there is more money."""

        async def work(row, **_):
            try:
                lease = await asyncio.wrap_future(engine.quota.take("m", 0, 0.04))
            except dspy_rlm.JobStoppedError as error:
                return outcome("failed", Verdict.UNFINISHED, error=str(error), cost=0.0)
            engine.quota.settle(lease, tokens=1, cost=0.04)
            return outcome(cost=0.0)

        engine = FakeEngine(work)
        report = run(20, engine, max_cost=0.1)

        assert report.stopped_by == "max_cost"
        assert report.counts == {"submitted": 2}
        assert report.unfinished >= 1
        assert JobJournal(tmp_path / "job").totals.suspects == set()

    def test_a_row_that_nothing_bounds_stops_a_job_with_a_cap(self, run, tmp_path):
        """It stays open: once there is a price, it goes on."""
        engine = FakeEngine(lambda row, **_: outcome(cost=None), concurrency=1)

        with pytest.raises(dspy_rlm.JobError, match="prices=") as stopped:
            run(3, engine, max_cost=1.0)

        assert (stopped.value.report.rows, stopped.value.report.unfinished) == (0, 1)

    def test_a_cap_needs_bounds_of_what_was_paid_without_one(self, run):
        """Earlier calls count for `max_cost`, so it cannot be kept if nothing bounds them. Without a cap the job goes on."""
        unbounded = FakeEngine(lambda row, **_: outcome(cost=None))
        run(1, unbounded)

        with pytest.raises(dspy_rlm.JobError, match=r"max_cost=\$1 cannot be kept"):
            run(2, max_cost=1.0)

        report = run(2)
        assert (report.counts, report.cost_is_exact) == ({"submitted": 2}, False)

    def test_an_unknown_price_is_found_before_the_first_row(self, run, rlm):
        """A cap that cannot be kept is no cap."""
        rlm.set_lm(dspy.LM("openai/nobody-knows-this", api_key="x"))
        engine = FakeEngine()

        with pytest.raises(dspy_rlm.BudgetExceededError, match="price"):
            run(3, engine, max_cost=1.0)

        assert engine.ran == []


class TestEnd:
    def test_an_interrupt_stops_all_rows_and_keeps_all(self, run, tmp_path):
        """The report of the exception has what there is; the next call goes on."""
        waiting = []

        async def work(row, **_):
            if int(row.key) < 4:
                return outcome()
            waiting.append(row.key)
            if len(waiting) == 3:
                signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
            return None

        with pytest.raises(KeyboardInterrupt) as caught:
            run(20, FakeEngine(work))

        report = caught.value.report
        assert report.stopped_by == "interrupted"
        assert report.counts == {"submitted": 4}
        assert json.loads((tmp_path / "job/report.json").read_text())["rows"] == 4
        assert JobJournal(tmp_path / "job").totals.suspects == set()
        assert run(20).rows == 20

    def test_a_full_disk_is_said(self, run, tmp_path):
        """A row that is not written has not ended."""
        (tmp_path / "job").mkdir()
        (tmp_path / "job/journal").write_text("in the way")

        with pytest.raises(JobError, match="journal of the job cannot be written"):
            run(3)

    def test_a_job_runs_in_a_notebook(self, run):
        """Its thread has an event loop that runs."""

        async def main():
            return run(3)

        assert asyncio.run(main()).ok

    def test_a_job_runs_in_a_thread(self, run):
        """Signals are those of the main thread."""
        reports = []
        thread = threading.Thread(target=lambda: reports.append(run(3)))
        thread.start()
        thread.join(60)

        assert reports[0].ok


class TestReport:
    def test_it_yields_the_rows(self, run):
        """In the order of the source, whatever the format of the result."""
        report = run(3)

        assert [(row["key"], row["answer"]) for row in report] == [(k, k) for k in "012"]
        lines = Path(report.result).read_text().splitlines()
        assert [json.loads(line) for line in lines] == list(report)

    def test_it_counts_errors_by_type(self, run):
        """So that the first look says what went wrong."""
        engine = FakeEngine(lambda row, **_: outcome("failed", error="InputError: no"))

        report = run(3, engine)

        assert report.errors == {"InputError": 3}
        assert "3 x InputError" in report.text()
        assert not report.ok

    def test_progress_is_observed(self, run):
        """With the time and the dollars that are left."""
        seen = []
        run(5, progress=seen.append)

        last = seen[-1]
        assert (last.done, last.total, last.left, last.running) == (5, 5, 0, 0)
        assert seen[0].total == 5
        middle = next(one for one in seen if 0 < one.done < 5)
        assert middle.cost_left == pytest.approx(0.01 * middle.left)
        assert middle.seconds_left is not None
        assert "of 5 rows" in middle.text()


@pytest.mark.nightly
def test_a_row_takes_little_memory(tmp_path):
    """About 200 bytes, for its key and its place, and nothing else: a million rows take 200 MB."""
    import tracemalloc

    count = 200_000
    journal = JobJournal(tmp_path)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        line = {"key": str(number), "number": number, "status": "submitted", "cost": 0.0}
        journal._place(number.to_bytes(16, "little"), line, 0, number)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert used < 250 * count
