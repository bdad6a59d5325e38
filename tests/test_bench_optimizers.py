"""The report of the optimizers' benchmark, in which a failure is a row like any other."""

from __future__ import annotations

import dspy

from benchmarks.optimizers import Row, measure, table


def test_a_row_for_each_optimizer_with_the_sides_beside_each_other():
    """A row has the scripted policy's scores, whether the contract holds, and the failures."""
    rows = [
        Row("GEPA", "ours", 50.0, 100.0, True, 100.0),
        Row("GEPA", "dspy.RLM", 50.0, error="TypeError: no"),
    ]

    assert table(rows).splitlines()[2] == (
        "| GEPA | 50 | 100 | alive | 100 | 50 | TypeError: no | - | - |"
    )


def test_what_an_optimizer_trips_over_is_told():
    """The failure of one optimizer is reported, and the others still run."""

    def make() -> dspy.Module:
        raise TypeError("no\nand more")

    row = measure("COPRO, appends", "ours", make)

    assert (row.error, row.before) == ("TypeError: no", None)
