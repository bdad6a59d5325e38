"""Jobs that are killed, and servers with limits: every row ends once, and as good as nothing is paid again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import dspy_rlm
from dspy_rlm.testing import Action, Fault, PolicyServer, scripted
from tests.thrifty_pool import ThriftyPool

ROOT = Path(__file__).parents[2]

CALLS = 3

policy = scripted(
    Action("Look.", "print(len(text))"),
    Action("Work.", "result = fragile(text)\nprint(result)"),
    Action("Done.", "SUBMIT(answer=result)"),
)

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


@pytest.fixture
def server():
    """A server that takes a moment for each answer, as a model does."""

    def slow(request):
        time.sleep(0.2)
        return policy(request)

    with PolicyServer({"root": slow}) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_left():
    """Ends the jobs of a test that has failed."""
    yield
    while CHILDREN:
        child = CHILDREN.pop()
        child.kill()
        child.communicate()


CHILDREN: list[subprocess.Popen[str]] = []


def start(server, out, count, **options):
    """Starts a job in another process."""
    given = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.jobs.child", server.base_url, str(out), str(count), *given],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    CHILDREN.append(child)
    return child


def finished(process):
    """Returns the report of a job that ends by itself."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


def rows_in(report):
    """Returns the rows of a result by key."""
    lines = Path(report["result"]).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row for row in rows}


def wait_for(condition):
    """Waits until something has happened."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_stopped_anywhere_goes_on(server, tmp_path, number):
    """Twice, in the middle of runs: every row ends once with its answer, and only calls in flight are paid again."""
    count, at_once = 16, 4
    for stop_at in (14, 30):
        process = start(server, tmp_path / "job", count, concurrency=at_once)
        wait_for(lambda stop_at=stop_at: len(server.requests) >= stop_at)
        process.send_signal(number)
        process.communicate(timeout=200)
        assert process.returncode != 0
    report = finished(start(server, tmp_path / "job", count, concurrency=at_once))

    rows = rows_in(report)
    assert {key: row["answer"] for key, row in rows.items()} == {
        str(i): f"ROW {i}" for i in range(count)
    }
    assert report["counts"] == {"submitted": count}
    assert report["unfinished"] == 0
    paid = sum(exchange.status == 200 for exchange in server.requests)
    assert count * CALLS <= paid <= count * CALLS + 2 * at_once
    assert not (tmp_path / "job" / "runs").exists()


def test_a_row_that_kills_its_process_is_given_up(server, tmp_path):
    """The next call tries it again alone, in a process of its own; the rows beside it end as always."""
    count = 8
    process = start(server, tmp_path / "job", count, poison=3, concurrency=4)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL

    report = finished(start(server, tmp_path / "job", count, poison=3, concurrency=4))

    rows = rows_in(report)
    assert rows["3"]["status"] == "given_up"
    assert "died 2 times" in rows["3"]["error"]
    assert {key: row["answer"] for key, row in rows.items() if key != "3"} == {
        str(i): f"ROW {i}" for i in range(count) if i != 3
    }
    # Two tries of the poisoned row have two answers each at most; the others' are paid once, but for those in flight.
    assert sum(exchange.status == 200 for exchange in server.requests) <= count * CALLS + 4


def test_a_limit_of_requests_costs_no_run(tmp_path):
    """24 runs of 3 calls against a server that allows 2 requests a second: none fails, and none is refused."""
    allowed = TokenBucket(rate=2, burst=2)
    with PolicyServer({"root": scripted(*_three_steps())}) as server:
        refusal = Fault(status=429, message="Rate limit", times=None, only=allowed.is_over)
        server.fail("root", refusal)
        pool = ThriftyPool()
        rlm = dspy_rlm.RLM("text: str -> answer: str", pool=pool)
        rlm.set_lm(server.lm("root"))
        rows = [{"id": i, "text": f"row {i}"} for i in range(24)]
        rates = {"openai/root": dspy_rlm.Rate(rpm=120)}

        report = dspy_rlm.batch(rlm, rows, out=tmp_path / "job", key="id", rates=rates)
        pool.close()

        statuses = Counter(exchange.status for exchange in server.requests)
    assert report.counts == {"submitted": 24}
    assert statuses == {200: 24 * CALLS}


def _three_steps():
    return (
        Action("Look.", "print(len(text))"),
        Action("Work.", "result = text.upper()"),
        Action("Done.", "SUBMIT(answer=result)"),
    )


class TokenBucket:
    """A server's limit: so many requests a second, and a few at once."""

    def __init__(self, rate, burst):
        self._rate, self._burst, self._left = rate, burst, float(burst)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def is_over(self, _request):
        """Takes a token; returns whether there was none."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                return True
            self._left -= 1
            return False


def test_the_keys_of_a_child_process_are_in_no_file(server, tmp_path):
    """A row that runs alone gets the keys of its LMs through a pipe."""
    key = "sk-proj-0123456789abcdefABCDEF"
    command = [
        *(sys.executable, "-m", "tests.jobs.child", server.base_url, str(tmp_path / "job"), "4"),
        *("poison=1", "concurrency=4", f"api_key={json.dumps(key)}"),
    ]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    files = [path for path in (tmp_path / "job").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if key.encode() in path.read_bytes()]
