"""The report of the optimizers' benchmark, in which a failure is an ordinary row."""

from __future__ import annotations

import dspy

from benchmarks.optimizers import Row, measure, table


def test_a_line_for_each_optimizer_with_both_sides():
    """A line has the scores of both sides, the state of the contract, and failures."""
    rows = [
        Row("GEPA", "ours", 50.0, 100.0, True, 100.0),
        Row("GEPA", "dspy.RLM", 50.0, error="TypeError: no"),
    ]

    assert table(rows).splitlines()[2] == (
        "| GEPA | 50 | 100 | alive | 100 | 50 | TypeError: no | - | - |"
    )


def test_a_failing_optimizer_is_reported():
    """The failure of one optimizer is reported and does not stop the others."""

    def make() -> dspy.Module:
        raise TypeError("no\nand more")

    row = measure("COPRO, appends", "ours", make)

    assert (row.error, row.before) == ("TypeError: no", None)
