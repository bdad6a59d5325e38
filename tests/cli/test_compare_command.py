"""`dspy-rlm compare` on items, and `dspy-rlm bench`. The models are scripted: scores say nothing about an LM."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run

from dspy_rlm.cli.comparing.bill import bill_text, expected
from dspy_rlm.cli.comparing.published import COLUMNS, PAPER, SUITES
from dspy_rlm.cli.exit_codes import BUDGET
from dspy_rlm.comparing.rows import Row, RowFile, read_rows
from dspy_rlm.testing import PolicyServer, fields

PROGRAM = """\
import dspy

def last(text):
    return dspy.Prediction(answer=text.split()[-1])

def never(example, prediction):
    return 0.0
"""

PRICES = ["--price", "openai/reader=1,2"]


@pytest.fixture
def flags(folder: Path) -> Iterator[list[str]]:
    """Flags for a scripted model, with examples and a system of one's own in the folder."""
    lines = [json.dumps({"text": f"a b w{i}", "answer": f"w{i}"}) for i in range(3)]
    (folder / "data.jsonl").write_text("\n".join(lines))
    (folder / "program.py").write_text(PROGRAM)
    answer = fields(lambda inputs: {"answer": (inputs.get("text") or "none").split()[-1]})
    with PolicyServer({"reader": answer}) as server:
        yield ["--model", "openai/reader", "--api-base", server.base_url, *PRICES]


DATA = ["--data", "data.jsonl", "--sig", "text -> answer", "--systems", "direct"]


class TestCompare:
    def test_systems_are_compared_and_saved(self, folder, run_here: Run, flags):
        """The bill comes first, then the result; the page, the JSON and the rows are written."""
        done = run_here(
            "compare", *DATA, "--system", "mine=program.py:last", *flags,
            "--output", "page.html", "--output", "result.json", "--json",
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["systems"] == ["direct", "mine"]
        assert [one["score"]["mean"] for one in result["overall"]["systems"]] == [1.0, 1.0]
        assert result["cost"] > 0
        assert "Expected bill for 3 items" in done.stderr
        assert "mine: unknown, as it is a system of your own" in done.stderr
        assert "Comparison: data" in (folder / "page.html").read_text("utf-8")
        assert json.loads((folder / "result.json").read_text("utf-8")) == result
        assert len(read_rows(folder / "comparison.rows.jsonl")) == 6

    def test_a_limit_that_is_reached_is_no_success(self, folder, run_here: Run, flags):
        """The exit code is that of a limit, and a higher limit goes on."""
        done = run_here("compare", *DATA, *flags, "--max-cost", "0.000001", "--quiet")

        assert done.returncode == 4
        assert "Stopped by max_cost" in done.stdout
        assert run_here("compare", *DATA, *flags, "--max-cost", "1").returncode == 0
        assert len(read_rows(folder / "comparison.rows.jsonl")) == 3

    def test_a_dry_run_sends_nothing(self, folder, run_here: Run, flags):
        """It prints the bill and keeps no rows."""
        done = run_here("compare", *DATA, *flags, "--dry-run")

        assert done.returncode == 0
        assert "direct: about 3,0" in done.stdout
        assert not (folder / "comparison.rows.jsonl").exists()

    def test_a_metric_of_a_file_replaces_the_comparison(self, run_here: Run, flags):
        """As for `optimize`."""
        done = run_here("compare", *DATA, *flags, "--metric", "program.py:never", "--json")

        assert json.loads(done.stdout)["overall"]["systems"][0]["score"]["mean"] == 0.0

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["compare"], 2, "Name two recorded runs, or"),
            (["compare", "old", *DATA], 2, "'old' is a recorded run"),
            (["compare", "--task", "s-niah", *DATA], 2, "exclude each other"),
            (["compare", "--data", "data.jsonl"], 2, "--data needs --sig"),
            (["compare", *DATA, "--data", "no.jsonl"], 10, "no such file"),
            (["compare", *DATA, "--systems", "best"], 2, "no system 'best'"),
            (["compare", *DATA, "--system", "mine"], 2, "NAME=FILE.py:OBJECT"),
            (["compare", *DATA, "--system", "mine=program.py:none"], 11, "program.py has no none"),
            (["compare", *DATA, "--output", "page.pdf"], 2, ".html or .json"),
            (["compare", *DATA, "--threads", "0"], 2, "must be 1 or more"),
            (["compare", "--task", "sniah"], 2, "There is no task 'sniah'"),
            (["bench", "--max-cost", "-1"], 2, "--max-cost must be more than 0"),
        ],
        ids=lambda value: " ".join(value)[-30:] if isinstance(value, list) else None,
    )
    def test_mistakes_are_named(self, run_here: Run, flags, arguments, code, message):
        """Each with what to do, and its exit code; nothing is sent."""
        done = run_here(*arguments, *flags)

        assert (done.returncode, message in done.stderr) == (code, True), done.stderr

    def test_a_limit_without_a_price_is_refused(self, run_here: Run, flags):
        """Before anything is sent, as it could not be kept."""
        done = run_here("compare", *DATA, *flags[:-2], "--max-cost", "1")

        assert done.returncode == 11
        assert "--price MODEL=PROMPT,REPLY" in done.stderr


SMALL = ["--items", "1", "--tokens", "4000", "--systems", "direct"]


class TestBench:
    @pytest.mark.nightly
    def test_a_suite_writes_a_page_with_both_tables(self, folder, run_here: Run, flags):
        """The published figures with their source, the reader's own, and a page for each task; a second run sends nothing."""
        done = run_here("bench", *SMALL, *flags, "--max-cost", "5")
        again = run_here("bench", *SMALL, *flags, "--max-cost", "5", "--json")

        assert done.returncode == again.returncode == 0, done.stderr
        assert "Expected bill for 5 items" in done.stderr
        page = (folder / "bench-paper-mini" / "index.html").read_text("utf-8")
        assert "arXiv:2512.24601v2" in page
        assert "28 January 2026" in page
        for part in SUITES["paper-mini"]:
            assert f'<a href="{part.task}.html">' in page
            assert len(read_rows(folder / "bench-paper-mini" / f"{part.task}.rows.jsonl")) == 1
        assert set(json.loads(again.stdout)["tasks"]) == {one.task for one in SUITES["paper-mini"]}

    def test_a_row_of_unknown_cost_makes_the_limit_void(self, folder, run_here: Run, flags):
        """It is not free, so a limit over all tasks could not be kept. Nothing is sent."""
        task = SUITES["paper-mini"][-1].task
        rows = RowFile(folder / "bench-paper-mini" / f"{task}.rows.jsonl")
        rows.add([Row("item", 0, "direct", "setup", 10, cost=None)])
        rows.close()

        done = run_here("bench", *SMALL, *flags, "--max-cost", "5")

        assert done.returncode == BUDGET
        assert f"The cost of a row in bench-paper-mini/{task}.rows.jsonl is unknown" in done.stderr

    @pytest.mark.parametrize("cost", [None, 2.5], ids=["unknown", "known"])
    def test_the_money_of_a_row_that_was_measured_again_counts(
        self, folder, run_here: Run, flags, cost
    ):
        """The row that replaces it is free, and what was paid before stays paid."""
        tasks = [part.task for part in SUITES["paper-mini"]]
        for task in tasks:
            rows = RowFile(folder / "bench-paper-mini" / f"{task}.rows.jsonl")
            down = Row("item", 0, "direct", "setup", 10, cost=cost, failure="LMServerError")
            rows.add([down, dataclasses.replace(down, cost=0.0, failure="")])
            rows.close()

        done = run_here("bench", *SMALL, *flags, "--max-cost", "5")

        assert done.returncode == BUDGET, done.stderr
        assert ("is unknown, so --max-cost cannot be kept" in done.stderr) == (cost is None)
        for task in tasks:
            assert len(read_rows(folder / "bench-paper-mini" / f"{task}.rows.jsonl")) == 1

    def test_a_dry_run_prints_the_bill_of_all_tasks(self, folder, run_here: Run, flags):
        """Nothing is sent or written."""
        done = run_here("bench", *SMALL, *flags, "--max-cost", "5", "--dry-run")

        assert done.returncode == 0, done.stderr
        assert "Expected bill for 5 items" in done.stdout
        assert "at most: about $5.00" in done.stdout
        assert not (folder / "bench-paper-mini").exists()


def test_the_published_table_is_whole():
    """Each row has a figure for each column, and each suite's columns exist."""
    names = {name for name, _ in COLUMNS}

    assert all(len(row.percent) == len(row.dollars) == len(COLUMNS) for row in PAPER)
    assert all(part.column in names | {""} for parts in SUITES.values() for part in parts)


def test_a_bill_grows_with_the_lengths():
    """Compaction reads everything with a frame for each part; retrieval stops growing; others' systems are unknown."""
    short, long = (expected("compaction", [length]) for length in (8_000, 80_000))

    assert short is not None
    assert long is not None
    assert long.root_in > 10 * short.root_in * 0.9
    assert expected("retrieval", [80_000]) == expected("retrieval", [800_000])
    assert expected("mine", [1]) is None
    assert "sum: unknown" in bill_text(["direct"], [100], None, None, None)
