"""The benchmark of long runs: its policy finishes within the window, and its figures are what they say."""

from __future__ import annotations

import pytest

from benchmarks.context import CASES, WINDOW, Figures, common, main, measure


def test_the_cached_share_counts_beginnings():
    """The share is that of the longest beginning in common with any earlier prompt."""
    figures = Figures(["abcd" * 4, "abxx" * 4, "abcd" * 8])

    assert common("abcd", "abxx") == 2
    assert figures.cached == (2 + 16) / 64
    assert figures.largest == 8


@pytest.mark.nightly  # 200 cells; the same rules are tested in `test_history_budget.py` without a sandbox
@pytest.mark.timeout(900)
def test_two_hundred_long_steps_fit_a_small_window(capsys):
    """Every case has its answer, no turn is lost, and the shares are printed."""
    assert main([]) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "%" in line]

    assert len(rows) == len(CASES)
    assert all(int(row[1].replace(",", "")) <= WINDOW for row in rows)
    assert all(int(row[6]) == 0 for row in rows)


def test_a_few_steps_refuse_one_prompt_at_most():
    """The window is learned from one refusal, and never met again."""
    figures = measure(CASES[0], 24)

    assert figures.answer == "24 2100 24"
    assert figures.refused <= 1
    assert figures.compactions >= 1
    assert 0.7 < figures.cached < figures.cacheable < 0.95
