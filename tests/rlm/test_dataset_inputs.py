"""A `Table` as an input of an RLM: what the prompt shows of it, and what cells get."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import dspy
import pytest

import dspy_rlm
from dspy_rlm.prompts.variables import describe
from dspy_rlm.testing import Action, Observation, PolicyServer, Task, policy
from dspy_rlm.values.previews import DEFAULT_RULES

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'dspy-rlm[tables]'")


@pytest.fixture
def tickets(tmp_path) -> dspy_rlm.Table:
    rows = {"id": list(range(50)), "text": [f"ticket {n} " + "word " * n for n in range(50)]}
    parquet.write_table(pa.table(rows), tmp_path / "tickets.parquet")
    return dspy_rlm.Table(tmp_path / "tickets.parquet")


def test_the_prompt_shows_columns_and_first_rows(tickets):
    """And the operations. A long text is cut."""
    signature = dspy.Signature("tickets -> count: int")

    field = signature.input_fields["tickets"]
    shown = describe("tickets", tickets, field, DEFAULT_RULES)

    assert shown.size == "50 rows, 2 columns"
    assert "columns: id: bigint, text: varchar" in shown.preview
    assert "'text': 'ticket 0 '" in shown.preview
    assert "t.rows(where=" in shown.type_name
    assert shown.type_name.endswith("`help` has the details")


@pytest.mark.nightly
def test_a_run_queries_it(tickets):
    """A tool or a sub-call gets the table itself, a cell its rows."""

    def script(task: Task) -> Generator[Any, Observation, None]:
        yield Action("", "found = tickets.grep('ticket 4[0-9]')\nSUBMIT(count=len(found))")

    with PolicyServer({"root": policy(script)}) as server, dspy.context(lm=server.lm("root")):
        prediction = dspy_rlm.RLM("tickets -> count: int")(tickets=tickets)

    assert prediction.count == 10
