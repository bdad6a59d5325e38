"""Jobs on a Ray cluster: the same rows, rates and money as in one process."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import dspy
import pytest

import dspy_rlm
from dspy_rlm.limiting.quota import Rate
from dspy_rlm.ray.engine import RayEngine
from dspy_rlm.testing import Action, Observation, PolicyServer, Task, policy
from tests.object_store import BUCKET

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("default"),  # of Ray
]

KEY = "sk-of-the-driver-0123456789abcdef"


def count_words(task: Task) -> Generator[Any, Observation, None]:
    seen = yield Action("Count.", "print(len(text.split()))")
    yield Action("That is it.", f"SUBMIT(count={int(seen.output)})")


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer({"root": policy(count_words)}) as one:
        yield one


def program(server: PolicyServer, **options: Any) -> dspy_rlm.RLM:
    rlm = dspy_rlm.RLM("text -> count: int", **options)
    settings = {"cache": False, "max_tokens": 1_000}
    rlm.set_lm(dspy.LM("openai/root", api_base=server.base_url, api_key=KEY, **settings))
    return rlm


def rows(number: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "text": "a " * n} for n in range(number)]


def test_a_job_runs_on_the_cluster(ray_cluster, server, tmp_path):
    """No file of it has the driver's key, and nothing is left of the rows that were under way."""
    report = dspy_rlm.batch(program(server), rows(6), out=tmp_path, key="id", engine="ray")

    assert [row["count"] for row in report] == list(range(6))
    assert not (tmp_path / "runs").exists()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_a_job_in_object_storage_goes_on_with_another_driver(
    ray_cluster, server, tmp_path, monkeypatch, bucket
):
    """Workers need no access to the storage: the driver writes what they answer."""
    out = f"s3://{BUCKET}/jobs/ray"
    for machine, count in [("first", 3), ("second", 6)]:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / machine))
        report = dspy_rlm.batch(program(server), rows(count), out=out, key="id", engine="ray")
    counts = [row["count"] for row in report]

    assert counts == list(range(6))
    assert report.skipped == 3
    assert len(server.requests) == 2 * 6


def test_the_rate_is_kept_by_all_workers_together(ray_cluster, server, tmp_path):
    """Requests are spaced, so no second has more of them than the rate allows."""
    engine = RayEngine(workers_per_node=2, runs_per_worker=4)

    report = dspy_rlm.batch(
        program(server),
        rows(12),
        out=tmp_path,
        key="id",
        engine=engine,
        rates={"openai/root": Rate(rpm=120)},
    )

    times = sorted(one.started for one in server.requests)
    assert report.counts == {"submitted": 12}
    assert len(times) == 24
    assert times[-1] - times[0] >= 0.5 * 22
    assert all(later - before > 2.0 for before, later in zip(times, times[6:], strict=False))


def test_the_money_of_the_job_is_never_exceeded(ray_cluster, server, tmp_path):
    """The rows that do not fit stay open, and go on with more money. What was paid is paid once."""
    price = {"openai/root": (1_000.0, 1_000.0)}  # dollars a million tokens
    rlm = program(server, prices=price)
    engine = RayEngine(workers_per_node=1, runs_per_worker=2)

    stopped = dspy_rlm.batch(rlm, rows(6), out=tmp_path, key="id", engine=engine, max_cost=12.0)
    again = dspy_rlm.batch(
        rlm,
        rows(6),
        out=tmp_path,
        key="id",
        engine=RayEngine(workers_per_node=1, runs_per_worker=2),
        max_cost=200.0,
    )

    assert stopped.cost <= 12.0
    assert stopped.stopped_by == "max_cost"
    assert [row["count"] for row in again] == list(range(6))
    assert len(server.requests) == 12


def test_a_missing_key_is_found_before_the_first_row(ray_cluster, server, tmp_path):
    """By the worker, when it is started."""
    engine = RayEngine(options={"runtime_env": {"env_vars": {"OPENAI_API_KEY": ""}}})

    with pytest.raises(dspy.LMNotConfiguredError):
        dspy_rlm.batch(program(server), rows(2), out=tmp_path, key="id", engine=engine)

    assert server.requests == []
