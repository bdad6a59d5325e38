"""The benchmark's report of rows that have only one side."""

from __future__ import annotations

import pytest

from benchmarks.report import Measured, Result, problems, table
from benchmarks.rows import Row

ROW = Row("saved", "save it", lambda contender: [], ours_alone="it saves no state")
OURS = Measured([1.0], rounds=1)


@pytest.mark.parametrize(
    ("ours", "requested", "line", "message"),
    [
        (
            OURS,
            ("ours", "peer"),
            "save it  1 s (1 s to 1 s; n=1, r=1)  none  -",
            "saved, peer: none, it saves no state",
        ),
        (OURS, ("ours",), "save it  1 s (1 s to 1 s; n=1, r=1)  not measured  -", ""),
        (None, ("peer",), "save it  not measured  none  -", "saved, peer: none, it saves no state"),
    ],
    ids=["both", "ours", "peer"],
)
def test_missing_sides(ours, requested, line, message):
    """A side without a result was not requested, or is the peer and has nothing to measure."""
    results = [Result(ROW, ours, None, requested)]

    assert " ".join(table(results).splitlines()[1].split()) == " ".join(line.split())
    assert problems(results) == message
