"""`Rows`: runs inside of a pipeline that repeats whole batches. The journal has each row that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import Any

import dspy
import pytest

import dspy_rlm
from dspy_rlm.errors import JobError
from dspy_rlm.jobs.job_journal import JobJournal
from dspy_rlm.ray.rows import EndedRows
from dspy_rlm.testing import Action, Observation, PolicyServer, Task, policy

pa = pytest.importorskip("pyarrow")

pytestmark = pytest.mark.filterwarnings("default")  # of Ray and Daft


def count_words(task: Task) -> Generator[Any, Observation, None]:
    yield Action("Count.", "SUBMIT(count=len(text.split()))")


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyServer]:
    with PolicyServer({"root": policy(count_words)}) as one:
        yield one


@pytest.fixture
def rlm(server):
    """An RLM that counts words."""
    module = dspy_rlm.RLM("text -> count: int")
    module.set_lm(server.lm("root"))
    return module


RECORDS = [{"id": f"r{number}", "text": "a " * number} for number in (1, 2, 3)]


class TestEndedRows:
    def test_rows_of_all_processes_are_found(self, tmp_path):
        """Also those that were written since the last look, but no torn ones."""
        part = tmp_path / "a.jsonl"
        part.write_bytes(b'{"e":"begin","key":"1"}\n{"e":"row","key":"1","status":"submitted"}\n')
        ended = EndedRows(tmp_path)
        ended.read()
        with part.open("ab") as file:
            file.write(b'{"e":"begin","key":"2"}\n{"e":"row","key":"2","sta')
        (tmp_path / "b.jsonl").write_bytes(b'{"e":"row","key":"3","status":"failed"}\nno json\n')

        ended.read()

        assert [key for key in "123" if ended.line(key)] == ["1", "3"]
        assert dict(ended.deaths) == {"2": 1}

    def test_a_row_that_was_left_is_no_suspect(self, tmp_path):
        """It was stopped, and its process did not die of it."""
        (tmp_path / "a.jsonl").write_bytes(b'{"e":"begin","key":"1"}\n{"e":"left","key":"1"}\n')
        ended = EndedRows(tmp_path)

        ended.read()

        assert not +ended.deaths


@pytest.mark.nightly
class TestRows:
    def test_a_batch_comes_back_with_the_columns_of_the_outcome(self, rlm, tmp_path):
        """As an Arrow table with a fixed schema, whatever came in."""
        rows = dspy_rlm.ray.Rows(rlm, out=tmp_path, key="id")

        table = rows({"id": ["r1", "r2"], "text": ["a", "a b"]})

        assert table.column("count").to_pylist() == [1, 2]
        assert table.column("status").to_pylist() == ["submitted"] * 2
        assert table.schema.field("error").type == pa.string()
        assert table.column("text").to_pylist() == ["a", "a b"]

    def test_a_repeated_batch_costs_nothing(self, rlm, server, tmp_path):
        """Another process finds its rows in the journal."""
        dspy_rlm.ray.Rows(rlm, out=tmp_path, key="id").run(RECORDS)
        paid = len(server.requests)

        again = dspy_rlm.ray.Rows(rlm, out=tmp_path, key="id").run(RECORDS)

        assert [one["count"] for one in again] == [1, 2, 3]
        assert len(server.requests) == paid

    def test_a_row_during_which_processes_died_is_given_up(self, rlm, tmp_path):
        """The others are not."""
        for _ in range(2):
            journal = JobJournal(tmp_path)
            journal.begin("r2", 1)
            journal.close()

        results = dspy_rlm.ray.Rows(rlm, out=tmp_path, key="id").run(RECORDS)

        assert [one["status"] for one in results] == ["submitted", "given_up", "submitted"]

    def test_one_row_at_a_time_can_be_awaited(self, rlm, tmp_path):
        """For engines with an async method for each row, such as Daft."""
        rows = dspy_rlm.ray.Rows(rlm, out=tmp_path, key="id")

        async def all_rows() -> list[Any]:
            return await asyncio.gather(*map(rows.arun, RECORDS))

        assert [one["count"] for one in asyncio.run(all_rows())] == [1, 2, 3]

    def test_another_program_is_refused(self, rlm, tmp_path, server):
        """Its rows would be mixed."""
        dspy_rlm.ray.Rows(rlm, out=tmp_path, key="id")
        other = dspy_rlm.RLM("text -> words: int")
        other.set_lm(server.lm("root"))

        with pytest.raises(JobError, match="another program"):
            dspy_rlm.ray.Rows(other, out=tmp_path, key="id")

    def test_ray_data_runs_them_in_a_pipeline(self, ray_cluster, server, tmp_path):
        """In actors, whose LMs have the key of their environment."""
        module = dspy_rlm.RLM("text -> count: int")
        module.set_lm(dspy.LM("openai/root", api_base=server.base_url, api_key="k" * 20))
        data = ray_cluster.data.from_items(RECORDS * 1)

        results = data.map_batches(
            dspy_rlm.ray.Rows,
            fn_constructor_args=(module,),
            fn_constructor_kwargs={"out": str(tmp_path), "key": "id"},
            num_cpus=0.25,
            concurrency=1,
            batch_size=2,
        ).take_all()

        assert sorted((one["id"], one["count"]) for one in results) == [
            ("r1", 1),
            ("r2", 2),
            ("r3", 3),
        ]

    def test_daft_runs_them_in_a_class(self, rlm, tmp_path):
        """One row for each call, on Daft's event loop."""
        daft = pytest.importorskip("daft", reason="Daft is not installed: pip install daft")

        @daft.cls
        class Counter:
            def __init__(self) -> None:
                self.rows = dspy_rlm.ray.Rows(rlm, out=tmp_path, key="id")

            @daft.method(return_dtype=daft.DataType.int64())
            async def count(self, id: str, text: str) -> int:
                return (await self.rows.arun({"id": id, "text": text}))["count"]

        frame = daft.from_pylist(RECORDS)
        counter = Counter()
        counted = frame.with_column("n", counter.count(frame["id"], frame["text"]))

        assert counted.to_pydict()["n"] == [1, 2, 3]
