"""The benchmark's report of rows with only one side."""

from __future__ import annotations

import pytest

from benchmarks.report import Measured, Result, problems, table
from benchmarks.rows import Row

ROW = Row("saved", "save it", lambda contender: [], ours_alone="it saves no state")
OURS = Measured([1.0], rounds=1)


@pytest.mark.parametrize(
    ("ours", "asked", "line", "told"),
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
def test_what_is_not_there_and_what_was_not_asked_for(ours, asked, line, told):
    """A missing measurement of the peer means that it has none or was not run; of ours, only the latter."""
    results = [Result(ROW, ours, None, asked)]

    assert " ".join(table(results).splitlines()[1].split()) == " ".join(line.split())
    assert problems(results) == told
