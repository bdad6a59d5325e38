"""Findings in recorded runs: each kind of waste, and nothing where there is none."""

from __future__ import annotations

from datetime import UTC, datetime

from dspy_rlm.cli.recorded.diagnosis import diagnose, findings_text
from dspy_rlm.journal.records import (
    AttemptRecord,
    CallRecord,
    CellRecord,
    ErrorRecord,
    RunRecord,
    SignatureRecord,
    StepRecord,
)


def call(digest, seconds=1.0, *, cut=False, error=None, parent="f"):
    """Returns a call of the code."""
    attempt = AttemptRecord(0.0, seconds, was_cut=cut)
    return CallRecord(
        1, digest, "r", 2, parent, "sub_llm", "m", 0, digest, None, {}, (attempt,), error=error
    )


def record(*calls, cell=None, ended=None):
    """Returns a run with one step."""
    step = StepRecord(2, "", "x", "", cell, calls)
    signature = SignatureRecord("", (), ())
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    return RunRecord(
        "f", 1, "r.jsonl", "r", None, None, 0, begun, signature, {}, {}, (step,), ended=ended or {}
    )


def kinds(*runs):
    """Returns the kinds of findings, with their numbers."""
    return {finding.kind: finding.number for finding in diagnose(runs)}


def test_nothing_is_found_in_a_good_run():
    """Different prompts and complete replies are no findings."""
    run = record(call("a"), call("b"), ended={"turns_lost": {}, "coverage": {}})

    assert diagnose([run]) == []
    assert findings_text([], 1).startswith("Nothing was wasted in 1 run")


def test_repeated_prompts_are_counted_in_one_run_each():
    """The first call of a prompt is none of them, nor is that of another run, nor a turn of the root LM."""
    run = record(call("a"), call("a"), call("a"), call("r", parent=None), call("r", parent=None))

    assert kinds(run, record(call("a"))) == {"repeated_prompts": 2}
    assert diagnose([run])[0].places == ("r, step 2",)


def test_calls_that_failed_were_cut_or_slow():
    """A call is slow beside the others of its run, not by itself."""
    error = ErrorRecord("LMServerError", "x")
    run = record(call("a"), call("b"), call("c", 30.0), call("d", cut=True), call("e", error=error))

    assert kinds(run) == {"slow_calls": 1, "cut_replies": 1, "failed_calls": 1}
    assert kinds(record(call("a", 30.0), call("b", 30.0))) == {}


def test_lost_turns_failed_cells_and_unread_inputs():
    """The report's counts of many runs are added up by cause; a hostile report is no error."""
    cell = CellRecord(1, "x", "failed", "", "KeyError")
    ended = {
        "turns_lost": {"unreadable": 2},
        "coverage": {"logs": {"fraction": 0.1}, "question": {"fraction": 1.0}},
    }
    runs = [record(cell=cell, ended=ended), record(cell=cell, ended=ended)]
    text = findings_text(diagnose(runs), 2)

    assert kinds(*runs) == {"turns_lost": 4, "failed_cells": 2, "unread_inputs": 2}
    assert "4 turns lost to the form of a reply: unreadable." in text
    assert "2 cells failed with KeyError.\n    at r, step 2; r, step 2" in text
    assert kinds(record(ended={"turns_lost": [1], "coverage": {"a": 3}})) == {}
