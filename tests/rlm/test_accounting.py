"""The figures of runs under random faults are those of the server; `python -m tests.accounting` has more of them."""

from __future__ import annotations

import pytest

from tests.accounting.trial import trial

# Resumes after a refused key and after cancellation, batches, sub-runs, caches, limits in tokens and dollars.
QUICK = (3, pytest.param(9, marks=pytest.mark.nightly), 11)


@pytest.mark.parametrize("number", QUICK)
def test_the_report_is_what_the_server_has_counted(number, kept):
    """Requests, tokens and cost are equal, and no limit is passed: with retries, cancellation and a resume."""
    assert trial(number, 1, kept).problems == []


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(100, 160))
def test_the_report_is_what_the_server_has_counted_in_many_runs(number, kept):
    """The same for more setups."""
    assert trial(number, 2, kept).problems == []
