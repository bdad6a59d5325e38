"""Jobs whose folder is in object storage: moto's S3 server, in a process of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dspy
import pytest

import dspy_rlm
from dspy_rlm.errors import JobError
from dspy_rlm.jobs.engine import Outcome
from dspy_rlm.jobs.job_journal import KEPT_PART_BYTES
from dspy_rlm.jobs.object_claim import Claim
from dspy_rlm.testing import Action, PolicyServer, scripted
from sandbox_runtime.helpers import Store, address_of
from tests.jobs.fake_engine import FakeEngine
from tests.object_store import BUCKET, delete_all

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
OUT = f"s3://{BUCKET}/jobs/one"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that lets a copy of a job be that of a machine, by its name."""

    def be(name):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / name))

    be("first")
    return be


@pytest.fixture
def rlm():
    rlm = dspy_rlm.RLM("text: str -> answer: str")
    rlm.set_lm(dspy.LM("openai/root", api_base="http://127.0.0.1:9", api_key="none"))
    return rlm


def names(store, prefix=""):
    """Returns the objects by name."""
    return sorted(one["path"] for batch in store.list(prefix) for one in batch)


def rows(count, size=1):
    return [{"id": number, "text": f"{number} " * size} for number in range(count)]


def run(rlm, count, engine=None, **options):
    """Runs a job of so many rows; returns its report and the rows that were run."""
    engine = engine or FakeEngine()
    report = dspy_rlm.batch(
        rlm, rows(count), **{"out": OUT, "key": "id", "engine": engine, **options}
    )
    return report, sorted(engine.ran, key=int)


def wait_for(condition):
    """Waits until something has happened."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class TestJobs:
    def test_a_job_goes_on_on_another_machine(self, bucket, machine, rlm):
        """Rows that have ended are not run again; the result and the report are objects."""
        first, _ = run(rlm, 5)
        machine("second")
        second, ran = run(rlm, 9)

        assert ran == ["5", "6", "7", "8"]
        assert (first.counts, second.counts) == ({"submitted": 5}, {"submitted": 9})
        assert (second.skipped, second.out, second.result) == (5, OUT, f"{OUT}/rows.jsonl")
        lines = bytes(bucket.get("jobs/one/rows.jsonl").bytes()).splitlines()
        assert [json.loads(line)["answer"] for line in lines] == [str(n) for n in range(9)]
        assert json.loads(bytes(bucket.get("jobs/one/report.json").bytes()))["rows"] == 9
        assert not names(bucket, "jobs/one/runs/")
        assert not names(bucket, "jobs/one/claim.json")

    def test_the_rows_of_a_report_are_read_anywhere(self, bucket, machine, rlm):
        """On a machine that has never seen the job, too."""
        report, _ = run(rlm, 3)
        machine("second")

        assert [row["answer"] for row in report] == ["0", "1", "2"]

    def test_each_row_is_stored_before_it_counts(self, bucket, machine, rlm):
        """A process that dies after a row loses none that the progress has shown."""
        seen = []

        def look(progress):
            data = b"".join(
                bytes(bucket.get(name).bytes()) for name in names(bucket, "jobs/one/journal/")
            )
            seen.append((progress.done, data.count(b'"e":"row"')))

        run(rlm, 6, concurrency=1, progress=look)

        assert {done for done, _ in seen} >= {1, 2, 3, 4, 5, 6}
        assert all(stored >= done for done, stored in seen)

    def test_a_long_journal_is_many_objects(self, bucket, machine, rlm):
        """None is much larger than a part, because each is sent again with each row that ends."""
        count = 24
        work = lambda row, **_: Outcome("submitted", {"answer": row.key * 40_000})  # noqa: E731
        run(rlm, count, FakeEngine(work))
        machine("second")
        report, ran = run(rlm, count)

        sizes = [bucket.head(name)["size"] for name in names(bucket, "jobs/one/journal/")]
        assert len(sizes) > 2
        assert max(sizes) < KEPT_PART_BYTES + 200_000
        assert ran == []
        assert [row["answer"] for row in report] == [str(n) * 40_000 for n in range(count)]

    def test_a_job_that_was_removed_begins_anew(self, bucket, machine, rlm):
        """The copy on this machine is not the job."""
        run(rlm, 3)
        delete_all(bucket)

        _, ran = run(rlm, 2)

        assert ran == ["0", "1"]

    def test_a_folder_with_a_job_is_refused_as_a_local_one_is(self, bucket, machine, rlm):
        """Without `resume`, and to another program; on any machine."""
        run(rlm, 1)
        machine("second")
        other = dspy_rlm.RLM("text: str -> answer: str, why: str")
        other.set_lm(rlm.generate_action.lm)

        with pytest.raises(JobError, match="has a job already"):
            run(rlm, 1, resume=False)
        with pytest.raises(JobError, match="another program"):
            run(other, 1)

    def test_a_bucket_that_does_not_exist_costs_nothing(self, bucket, machine, rlm):
        """The error comes before the first row."""
        engine = FakeEngine()

        with pytest.raises(JobError, match="no such bucket"):
            run(rlm, 3, engine, out="s3://no-such-bucket/one")

        assert engine.ran == []

    def test_foreign_objects_are_left_alone(self, bucket, machine, rlm, tmp_path):
        """A bucket may have others below the address."""
        run(rlm, 1)
        for name in ("journal/a/b.jsonl", "runs/.x/y", "runs/z", "notes.txt"):
            bucket.put(f"jobs/one/{name}", b"{}")
        machine("second")

        run(rlm, 2)

        found = [path.relative_to(tmp_path / "second") for path in (tmp_path / "second").rglob("*")]
        assert not {"b.jsonl", "y", "z", "notes.txt"} & {path.name for path in found}
        assert "jobs/one/notes.txt" in names(bucket)

    @pytest.mark.parametrize("form", ["parquet", "lance"])
    def test_other_formats_are_objects_too(self, bucket, machine, rlm, form):
        """They are written again as a whole by a later call."""
        tables = pytest.importorskip({"parquet": "pyarrow.parquet", "lance": "lance"}[form])
        run(rlm, 2, format=form)
        machine("second")
        report, _ = run(rlm, 4, format=form)

        assert report.result == f"{OUT}/rows.{form}"
        if form == "lance":
            table = tables.dataset(report.result).to_table()
        else:
            data = io.BytesIO(bytes(bucket.get("jobs/one/rows.parquet").bytes()))
            table = tables.read_table(data)
        assert table["answer"].to_pylist() == ["0", "1", "2", "3"]

    def test_the_command_line_takes_an_address(self, bucket, machine, rlm, tmp_path):
        """It refuses a job that is there without --resume, and estimates from its rows."""
        run(rlm, 3)
        machine("second")
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(5)))
        flags = ["--sig", "text: str -> answer: str", "--key", "id", "-o", OUT]
        model = ["--model", "openai/root", "--api-base", "http://127.0.0.1:9"]
        command = [sys.executable, "-m", "dspy_rlm", "batch", str(file), *flags, *model]
        options = {"capture_output": True, "text": True, "cwd": ROOT}

        refused = subprocess.run(command, check=False, **options)
        estimated = subprocess.run([*command, "--dry-run"], check=False, **options)

        assert (refused.returncode, estimated.returncode) == (11, 0), estimated.stderr
        assert f"{OUT} has a job already" in refused.stderr
        assert estimated.stdout.startswith("rows: 5, 3 done\n")


class TestClaims:
    @pytest.fixture
    def place(self, bucket):
        return Store(address_of(f"s3://{BUCKET}/claim.json", None))

    def test_a_job_that_is_worked_on_is_refused(self, bucket, machine, rlm, place):
        """On any machine: the other process renews its claim."""
        claim = Claim(Store(address_of(f"{OUT}/claim.json", None)), renewed_seconds=0.05)
        claim.take()
        engine = FakeEngine()

        with pytest.raises(JobError, match=rf"process {os.getpid()} on "):
            run(rlm, 1, engine)
        claim.release()
        _, ran = run(rlm, 1)

        assert engine.ran == []
        assert ran == ["0"]

    def test_the_claim_of_a_dead_process_is_replaced(self, place):
        """It is one that nobody renews."""
        place.write(json.dumps({"id": "x", "pid": 1, "where": ["elsewhere"]}).encode())

        claim = Claim(place, dead_after_seconds=0.2)
        claim.take()
        claim.check()
        claim.release()

        assert place.read_small(1000) is None

    def test_that_of_a_process_of_this_machine_needs_no_wait(self, place):
        """It is known to have ended."""
        code = (
            "import sys; from dspy_rlm.jobs.object_claim import Claim\n"
            "from sandbox_runtime.helpers import Store, address_of\n"
            "Claim(Store(address_of(sys.argv[1], None))).take()"
        )
        subprocess.run([sys.executable, "-c", code, place.address.url], check=True, cwd=ROOT)
        assert place.read_small(1000) is not None

        # Longer than the test may take.
        claim = Claim(place, dead_after_seconds=10_000)
        claim.take()
        claim.release()

    def test_a_process_that_was_taken_for_dead_learns_it(self, place):
        """It writes nothing more."""
        claim = Claim(place, renewed_seconds=0.05)
        claim.take()
        place.write(b'{"id": "another"}')
        lost = threading.Event()

        def look():
            try:
                claim.check()
            except OSError:
                lost.set()
            return lost.is_set()

        wait_for(look)
        claim.release()

        assert place.read_small(1000) == b'{"id": "another"}'

    def test_only_one_of_many_replaces_it(self, place):
        """The store decides."""
        place.write(b'{"id": "dead"}')
        claims = [Claim(place, dead_after_seconds=0.2) for _ in range(8)]
        taken, start = [], threading.Barrier(8)

        def take(claim):
            start.wait()
            try:
                claim.take()
            except JobError:
                return
            taken.append(claim)

        threads = [threading.Thread(target=take, args=[claim]) for claim in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for claim in taken:
            claim.release()

        assert len(taken) == 1


CALLS = 3
policy = scripted(
    Action("Look.", "print(len(text))"),
    Action("Work.", "result = fragile(text)\nprint(result)"),
    Action("Done.", "SUBMIT(answer=result)"),
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("where", ["first", "second"])
def test_a_process_that_ends_loses_no_row(bucket, machine, tmp_path, number, where):
    """Here and on another machine. What is paid again are calls in flight; after SIGKILL, elsewhere, the rows in flight."""
    count, at_once = 10, 3
    held, go_on = [], threading.Event()

    def hold(request):
        # The third call of a row; the first rows end before.
        if len(server.requests) >= 14 and "result = fragile" in request.prompt:
            held.append(request)
            go_on.wait()
        return policy(request)

    with PolicyServer({"root": hold}) as server:
        command = [sys.executable, "-m", "tests.jobs.child", server.base_url, OUT, str(count)]
        command.append(f"concurrency={at_once}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            wait_for(lambda: len(held) == at_once)
            process.send_signal(number)
            process.communicate()
        go_on.set()
        assert process.returncode != 0
        machine(where)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
        paid = sum(exchange.status == 200 for exchange in server.requests)
    report = json.loads(done.stdout.splitlines()[-1])

    assert report["counts"] == {"submitted": count}
    lines = bytes(bucket.get("jobs/one/rows.jsonl").bytes()).splitlines()
    assert sorted(json.loads(line)["answer"] for line in lines) == sorted(
        f"ROW {n}" for n in range(count)
    )
    again = at_once * (CALLS if (number, where) == (signal.SIGKILL, "second") else 1)
    assert count * CALLS <= paid <= count * CALLS + again
    assert not names(bucket, "jobs/one/runs/")
