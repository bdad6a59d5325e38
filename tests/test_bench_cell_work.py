"""The comparison of common work: the same pieces everywhere, and a table that refuses different answers."""

from __future__ import annotations

import pytest

from benchmarks.cell_work import native, table


def test_the_work_runs_in_this_python():
    """Each piece has an answer, which is a number."""
    measured = native(0.0005)

    assert len(measured) == 17
    assert all(seconds >= 0 and answer >= 0 for seconds, answer in measured.values())


class TestTable:
    def test_the_least_of_each_side(self):
        """With both ratios."""
        rounds = {
            "native": [{"re": (0.2, 7)}, {"re": (0.1, 7)}],
            "ours": [{"re": (0.2, 7)}],
            "peer": [{"re": (0.4, 7)}],
        }

        assert table(rounds).splitlines()[2] == "| re | 100 ms | 200 ms | 400 ms | 2.00 | 2.00 |"

    def test_without_the_peer(self):
        """Its columns are empty."""
        rounds = {"native": [{"re": (0.2, 7)}], "ours": [{"re": (0.2, 7)}]}

        assert table(rounds).endswith("| re | 200 ms | 200 ms |  | 1.00 |  |")

    def test_different_answers(self):
        """Sides that do different work are not compared."""
        with pytest.raises(ValueError, match=r"re: the sides have different answers: \[7, 8\]"):
            table({"native": [{"re": (0.2, 7)}], "ours": [{"re": (0.2, 8)}]})
