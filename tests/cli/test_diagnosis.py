"""Findings in recorded runs: each kind of waste, and nothing where there is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from dspy_rlm.diagnosis import diagnose, findings_text, proposer_text, totals
from dspy_rlm.journal.records import (
    AttemptRecord,
    CallRecord,
    CellRecord,
    ErrorRecord,
    RunRecord,
    SignatureRecord,
    StepRecord,
    ValueRecord,
)


def call(digest, seconds=1.0, *, cut=False, error=None, parent="f"):
    """Returns a call of the code."""
    attempt = AttemptRecord(0.0, seconds, was_cut=cut)
    return CallRecord(
        1, digest, "r", 2, parent, "sub_llm", "m", 0, digest, None, {}, (attempt,), error=error
    )


def record(*calls, cell=None, ended=None, steps=None, inputs=None, run_id="r"):
    """Returns a run with one step, or with those that are passed."""
    step = StepRecord(2, "", "x", "", cell, calls)
    signature = SignatureRecord("", (), ())
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    return RunRecord(
        "f",
        1,
        "r.jsonl",
        run_id,
        None,
        None,
        0,
        begun,
        signature,
        {},
        inputs or {},
        steps or (step,),
        ended=ended or {},
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
    assert "2 cells failed with KeyError.\n    at r, step 2\n" in text
    assert kinds(record(ended={"turns_lost": [1], "coverage": {"a": 3}})) == {}


def silent(number, code="x = 1", output=""):
    """Returns a step whose cell has this output."""
    return StepRecord(number, "", code, output, CellRecord(number, code, "completed", output))


def test_silent_and_repeated_cells():
    """A cell without output, and one whose code ran before, cost a turn each; SUBMIT and calls are output enough."""
    asking = StepRecord(4, "", "z", "", CellRecord(4, "z", "completed", ""), (call("a"),))
    last = StepRecord(5, "", "SUBMIT(1)", "", CellRecord(5, "SUBMIT(1)", "submitted", ""))
    run = record(steps=(silent(1), silent(2, "y", "1"), silent(3, "y", "1"), asking, last))
    findings = {finding.kind: finding for finding in diagnose([run])}

    assert findings.keys() == {"silent_cells", "repeated_cells"}
    assert findings["silent_cells"].places == ("r, step 1",)
    assert findings["repeated_cells"].places == ("r, step 3",)
    assert totals([run], diagnose([run])) == {"runs": 1, "turns": 5, "turns_wasted": 2}


def test_causes_have_advice_of_their_own():
    """A reply that was cut needs a higher limit; one that cannot be read needs another model: the advice says which."""
    ended = {"turns_lost": {"cut_off": 1, "unreadable": 1, "new_cause": 1}}
    advice = {finding.cause: finding.advice for finding in diagnose([record(ended=ended)])}

    assert "raise max_tokens" in advice["cut_off"]
    assert "stronger model" in advice["unreadable"]
    assert "docs/replies.md" in advice["new_cause"]


def test_runs_without_submit():
    """Runs that a limit ended are counted by the limit."""
    extracted = {"status": "extracted", "stopped_by": "max_iterations"}
    findings = diagnose([record(ended=extracted, run_id=name) for name in "ab"])

    assert [(one.kind, one.number, one.runs, one.cause) for one in findings] == [
        ("no_submit", 2, 2, "max_iterations")
    ]
    assert "Raise max_iterations" in findings[0].advice


def test_inputs_that_no_code_names():
    """Without coverage, an input is unread if no code names it; a short one stands in the prompt itself."""
    long, short = ValueRecord("text", size=9_000), ValueRecord("text", size=20)
    inputs = {"logs": long, "notes": long, "question": short, "file": ValueRecord("file")}
    run = record(steps=(silent(1, "print(logs)", "1"),), inputs=inputs)

    assert [finding.cause for finding in diagnose([run])] == ["notes", "file"]


def test_repeats_have_their_price():
    """The cost of repeated calls is known if each of them has a cost; cached ones cost nothing."""

    def paid(cost, cached=False):
        attempt = AttemptRecord(0.0, 2.0, cost=cost, cached=cached, input_tokens=1, output_tokens=1)
        return CallRecord(1, "a", "r", 2, "f", "sub_llm", "m", 0, "a", None, {}, (attempt,))

    (finding,) = diagnose([record(paid(0.5), paid(0.25), paid(0.5, cached=True))])
    (unknown,) = diagnose([record(paid(0.5), paid(None))])

    assert (finding.number, finding.cost, finding.seconds) == (2, 0.25, 2.0)
    assert unknown.cost is None
    assert "($0.25, 2.0 s)." in findings_text([finding], 1)


def test_feedback_has_what_instructions_can_change():
    """A slow server is nothing for an LM that writes instructions; repeated prompts are."""
    run = record(call("a"), call("a"), call("c"), call("d"), call("b", 30.0))
    text = proposer_text(diagnose([run]), 1)

    assert text.startswith("Waste in this run, from its record:\n- 1 sub-call had the prompt")
    assert "Say to keep the answers of sub-calls in a variable" in text
    assert "slow" not in text
    assert "longer" not in text
    assert proposer_text([], 1) == ""


class TestCommand:
    """The command on runs that were recorded."""

    def test_many_runs(self, server):
        """Without a name, the runs of the folder are diagnosed: as text, JSON, and feedback."""
        for _ in range(2):
            done = server.ask("log.txt", "-q", "ERROR", "--max-llm-calls", "3", "--journal", "runs")
            assert done.returncode == 0
        (server.folder / "runs" / "broken.jsonl").write_text("nothing")
        options = ["--journals", "runs"]
        text = server.run("runs", "diagnose", *options)
        whole = json.loads(server.run("runs", "diagnose", "--json", *options).stdout)
        feedback = server.run("runs", "diagnose", "--feedback", *options)

        assert text.stdout == "Nothing was wasted in 2 runs, as far as the journals say.\n"
        assert "broken.jsonl is left out" in text.stderr
        assert (whole["format"], whole["runs"], whole["turns"]) == ("dspy-rlm/diagnosis", 2, 6)
        assert whole["findings"] == []
        assert feedback.stdout == "Nothing was wasted.\n"
        assert server.run("runs", "diagnose", "--journals", "logs").returncode == 10
