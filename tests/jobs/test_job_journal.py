"""The journal of a job: what a killed process has written is read, in order, each row once."""

from __future__ import annotations

import asyncio

import pytest

from dspy_rlm.jobs.engine import key_digest
from dspy_rlm.jobs.job_journal import KEPT_PART_BYTES, JobJournal


def line(key, number=0, status="submitted", **fields):
    """A row that has ended."""
    return {"key": key, "number": number, "status": status, "cost": 0.5, "llm_calls": 2, **fields}


def write(folder, *lines, begun=(), again=()):
    """Writes a part, as one process does."""
    journal = JobJournal(folder)
    for key in begun:
        journal.begin(key, 1)

    async def add():
        await asyncio.gather(
            *(journal.add(one, again=one["key"] in again) for one in lines),
        )

    asyncio.run(add())
    journal.close()


class TestReading:
    def test_rows_come_in_the_order_of_the_source(self, tmp_path):
        """They end in any order, in several processes."""
        write(tmp_path, line("c", 2), line("a", 0))
        write(tmp_path, line("b", 1))

        assert [row["key"] for row in JobJournal(tmp_path).rows()] == ["a", "b", "c"]

    @pytest.mark.parametrize("end", [b'{"e":"row","key":"b","num', b"\xff\xfe\n", b"[]\n", b""])
    def test_a_torn_line_loses_no_other(self, tmp_path, end):
        """SIGKILL may come in the middle of a write."""
        write(tmp_path, line("a"))
        [part] = (tmp_path / "journal").iterdir()
        part.write_bytes(part.read_bytes() + end)
        write(tmp_path, line("c", 2))

        journal = JobJournal(tmp_path)

        assert [row["key"] for row in journal.rows()] == ["a", "c"]
        assert not journal.is_done("b")

    def test_keys_may_be_anything(self, tmp_path):
        """A lone surrogate is valid in Python, and in JSON."""
        keys = ["ä", "a/b", "\ud800", "", "x" * 5000]
        write(tmp_path, *(line(key, i) for i, key in enumerate(keys)))

        assert [row["key"] for row in JobJournal(tmp_path).rows()] == keys
        assert all(map(JobJournal(tmp_path).is_done, keys))

    def test_nothing_is_created_by_reading(self, tmp_path):
        """A dry run leaves no trace."""
        assert len(JobJournal(tmp_path / "new")) == 0
        assert not (tmp_path / "new").exists()


class TestTotals:
    def test_all_processes_count(self, tmp_path):
        """The cap of a job includes what earlier processes have spent."""
        write(tmp_path, line("a"), line("b", status="failed"))
        write(tmp_path, line("c"))

        totals = JobJournal(tmp_path).totals

        assert totals.counts == {"submitted": 2, "failed": 1}
        assert (totals.cost, totals.llm_calls, totals.is_exact) == (1.5, 6, True)

    def test_an_unknown_cost_is_noted(self, tmp_path):
        """The sum is no longer exact."""
        write(tmp_path, line("a", cost=None))

        assert not JobJournal(tmp_path).totals.is_exact

    def test_a_row_that_went_on_counts_its_money_once(self, tmp_path):
        """The cost of a run that is resumed includes what it had cost before."""
        write(tmp_path, line("a", status="failed", cost=0.5), again={"a"})
        write(tmp_path, line("a", cost=0.7, llm_calls=3))

        totals = JobJournal(tmp_path).totals

        assert +totals.counts == {"submitted": 1}
        assert (totals.cost, totals.llm_calls) == (pytest.approx(0.7), 3)

    def test_a_row_counts_as_what_was_booked_for_it(self, tmp_path):
        """A lost answer has no known cost, and the quota has booked its bound."""
        write(tmp_path, line("a", cost=None, booked=0.75), line("b", cost=0.5, booked=0.5))

        totals = JobJournal(tmp_path).totals

        assert (totals.cost, totals.unbounded, totals.is_exact) == (1.25, 0, False)

    def test_a_row_that_nothing_bounds_is_not_free(self, tmp_path):
        """It is counted apart, until it goes on and its amount is known."""
        write(tmp_path, line("a", cost=None, booked=None), again={"a"})
        assert JobJournal(tmp_path).totals.unbounded == 1

        write(tmp_path, line("a", cost=0.5, booked=0.5))

        totals = JobJournal(tmp_path).totals
        assert (totals.cost, totals.unbounded) == (0.5, 0)

    def test_what_the_whole_job_had_booked_is_the_least(self, tmp_path):
        """Rows without a journal of their own, such as on another node, were paid too."""
        write(tmp_path, line("a", spent=0.5))
        journal = JobJournal(tmp_path)
        journal.begin("b", 1)
        journal.note_spent(0.9)
        journal.close()

        assert JobJournal(tmp_path).totals.spent == 0.9
        assert [set(row) for row in JobJournal(tmp_path).rows()] == [
            {"key", "number", "status", "cost", "llm_calls", "t"}
        ]

    def test_a_row_that_was_run_anew_counts_twice(self, tmp_path):
        """With `retry_failed` both runs are paid, and the row is one row."""
        write(tmp_path, line("a", status="failed"))
        write(tmp_path, line("a"))

        journal = JobJournal(tmp_path)

        assert +journal.totals.counts == {"submitted": 1}
        assert journal.totals.cost == 1.0
        assert [row["status"] for row in journal.rows()] == ["submitted"]


class TestKeys:
    def test_what_failed_for_a_moment_is_open_again(self, tmp_path):
        """A server that could not be reached says nothing about the row."""
        write(tmp_path, line("a", status="failed"), line("b", status="failed"), again={"a"})

        journal = JobJournal(tmp_path)

        assert not journal.is_done("a")
        assert journal.is_done("b")

    @pytest.mark.parametrize("status", ["failed", "given_up"])
    def test_failed_rows_are_tried_again_on_request(self, tmp_path, status):
        """Rows with an answer are not."""
        write(tmp_path, line("a", status=status), line("b"))

        journal = JobJournal(tmp_path)

        assert journal.is_done("a")
        assert not journal.is_done("a", retry_failed=True)
        assert journal.is_done("b", retry_failed=True)

    def test_a_row_that_was_begun_anew_is_not_closed(self, tmp_path):
        """With `retry_failed` it has a run again, of which the money is not in its line."""
        write(tmp_path, line("a", status="failed"), line("b", status="failed"))
        write(tmp_path, begun=("a",))

        journal = JobJournal(tmp_path)

        assert [journal.is_closed(key_digest(key)) for key in "ab"] == [False, True]
        assert journal.is_done("a")

    def test_rows_of_a_dead_process_are_suspects(self, tmp_path):
        """They were begun, and neither left nor ended."""
        write(tmp_path, line("a"), begun=["a", "b"])

        assert JobJournal(tmp_path).totals.suspects == {"b"}

    def test_rows_that_were_left_are_none(self, tmp_path):
        """Ctrl-C stops rows that have done nothing."""
        journal = JobJournal(tmp_path)
        journal.begin("a", 1)
        journal.leave("a")
        journal.close()

        assert JobJournal(tmp_path).totals.suspects == set()

    def test_only_seen_deaths_count(self, tmp_path):
        """The death of a driver may have any reason; that of a worker was seen."""
        journal = JobJournal(tmp_path)
        journal.begin("a", 1)
        journal.died("a")
        journal.close()
        write(tmp_path, begun=["a", "b"])

        totals = JobJournal(tmp_path).totals

        assert totals.deaths == {"a": 1}
        assert totals.suspects == {"a", "b"}


def test_a_row_is_on_the_disk_when_it_is_added(tmp_path):
    """Rows that end together share one fsync, and each waits for it."""
    journal = JobJournal(tmp_path)

    async def add():
        for number in range(3):
            await asyncio.gather(*(journal.add(line(f"{number}-{i}", i)) for i in range(20)))
            assert len(list(JobJournal(tmp_path).rows())) == 20 * (number + 1)

    asyncio.run(add())
    journal.close()


class TestKeptElsewhere:
    """Parts that are copied, as to object storage: a copy is whole when a row counts, and no part is long."""

    @pytest.fixture
    def keep(self, tmp_path):
        """Copies parts into a folder."""

        def keep(paths):
            for path in paths:
                copy = tmp_path / "copy" / path.relative_to(tmp_path / "job")
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())

        return keep

    def test_a_row_is_in_the_copy_when_it_is_added(self, tmp_path, keep):
        """In several parts, in the order of the source; its steps too."""
        journal = JobJournal(tmp_path / "job", keep)
        big = "x" * 50_000

        async def add():
            for number in range(20):
                await journal.add(line(f"{number}", number, outputs={"a": big}), ["step"])
                copied = JobJournal(tmp_path / "copy")
                assert [row["number"] for row in copied.rows()] == list(range(number + 1))

        asyncio.run(add())
        journal.close()

        parts = sorted((tmp_path / "copy" / "journal").iterdir())
        assert len(parts) > 2
        assert max(part.stat().st_size for part in parts) < KEPT_PART_BYTES + 60_000
        steps = (tmp_path / "copy" / "trajectories").iterdir()
        assert sum(part.read_bytes().count(b"step") for part in steps) == 2 * 20
        assert [row["number"] for row in journal.rows()] == list(range(20))

    def test_a_row_that_was_left_in_a_later_part_is_no_suspect(self, tmp_path, keep):
        """Parts of one process belong together."""
        journal = JobJournal(tmp_path / "job", keep)
        journal.begin("a", 1)
        journal.begin("b", 1)
        asyncio.run(journal.add(line("c", outputs={"a": "x" * KEPT_PART_BYTES})))
        journal.leave("a")
        journal.close()

        copied = JobJournal(tmp_path / "copy")

        assert copied.totals.parts == 2
        assert copied.totals.suspects == {"b"}

    def test_a_copy_that_fails_is_an_error_of_the_row(self, tmp_path):
        """And the part is copied with the next one."""
        copies, broken = [], [True]

        def keep(paths):
            if broken:
                broken.pop()
                raise OSError("no space")
            copies.extend(paths)

        journal = JobJournal(tmp_path / "job", keep)
        with pytest.raises(OSError, match="no space"):
            asyncio.run(journal.add(line("a", outputs={"a": "x" * KEPT_PART_BYTES})))
        asyncio.run(journal.add(line("b")))
        journal.close()

        assert {path.name for path in copies} == {
            path.name for path in (tmp_path / "job" / "journal").iterdir()
        }
        assert len(JobJournal(tmp_path / "job")) == 2


def test_trajectories_are_beside_the_rows(tmp_path):
    """They are larger than the rows, and not read with them."""
    journal = JobJournal(tmp_path)
    asyncio.run(journal.add(line("a"), [{"code": "1"}]))
    journal.close()

    [part] = (tmp_path / "trajectories").iterdir()
    assert part.read_text() == '{"key":"a","steps":[{"code":"1"}]}\n'
    assert "code" not in next(iter((tmp_path / "journal").iterdir())).read_text()
