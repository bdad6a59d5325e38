"""The diagnosis of a recorded run, as feedback for an optimizer."""

from __future__ import annotations

from pathlib import Path

import dspy
import pytest

from dspy_rlm import RLM
from dspy_rlm.diagnosis import diagnose
from dspy_rlm.diagnosis.calls import PROBLEM
from dspy_rlm.journal import load
from dspy_rlm.optimize import diagnosis, feedback
from dspy_rlm.repl.typed_call import PROBLEM_FIELD
from dspy_rlm.testing import Action, PolicyServer, scripted
from dspy_rlm.testing.prompts import read_prompt, write_answer

MOVES = scripted(
    Action(
        "", "rows = predict_batched('text -> n: int', [{'text': 'a'}, {'text': 'b'}])\nprint(rows)"
    ),
    Action("", "x = 1"),
    Action("", "print(undefined)"),
    Action("", "print(sub_llm('the same'), sub_llm('the same'))"),
    Action("", "SUBMIT(answer='x')"),
)


def sub(request):
    """Answers the first typed call in prose: it does not fit, and is asked again."""
    if "the same" in request.prompt:
        return "It is."
    prompt = read_prompt(request)
    if prompt.inputs["text"] == "a" and "problem_with_last_reply" not in prompt.inputs:
        return "I do not know."
    return write_answer({"n": 3}, in_json=prompt.in_json)


@pytest.fixture(scope="module")
def prediction(tmp_path_factory: pytest.TempPathFactory) -> dspy.Prediction:
    """The prediction of a run that wastes in every way."""
    journal = str(tmp_path_factory.mktemp("runs"))
    with PolicyServer({"root": MOVES, "sub": sub}) as server, dspy.context(lm=server.lm("root")):
        rlm = RLM("text: str, unused: str -> answer", sub_lm=server.lm("sub"), journal=journal)
        return rlm(text="...", unused="not read " * 100)


def test_each_waste_is_found_once(prediction: dspy.Prediction):
    """A reply that did not fit its types is no repeated prompt, though DSPy asks again."""
    findings = {finding.kind: finding for finding in diagnose([load(prediction.run.journal)])}

    assert {kind: finding.number for kind, finding in findings.items()} == {
        "malformed_replies": 1,
        "silent_cells": 1,
        "failed_cells": 1,
        "repeated_prompts": 1,
        "unread_inputs": 1,
    }
    assert findings["malformed_replies"].cause == "openai/sub"
    assert findings["failed_cells"].cause == "NameError"
    assert findings["unread_inputs"].cause == "unused"


def test_the_section_is_that_of_typed_calls():
    """The diagnosis looks for the section that typed calls write."""
    assert f"[[ ## {PROBLEM_FIELD} ## ]]" == PROBLEM


def test_feedback_may_have_it(prediction: dspy.Prediction):
    """`feedback(..., diagnose=True)` adds the diagnosis of the run's journal; without it, the text is as before."""
    plain = feedback(0.0, prediction).feedback
    whole = feedback(0.0, prediction, diagnose=True).feedback

    assert whole == f"{plain}\n{diagnosis(prediction)}"
    assert "Waste in this run, from its record:" in whole
    assert "Say what unused is for, and to read it." in whole


def test_what_runs_can_be(prediction: dspy.Prediction, tmp_path: Path):
    """Predictions, reports, records and paths are runs; what has no journal is left out."""
    path = prediction.run.journal
    text = diagnosis(prediction)

    assert text == diagnosis(prediction.run) == diagnosis(path) == diagnosis(load(path))
    assert text == diagnosis(Path(path), tmp_path / "nothing.jsonl", dspy.Prediction(a=1))
    assert "Waste in 2 runs" in diagnosis(path, path)
    assert diagnosis() == diagnosis(dspy.Prediction(a=1)) == ""
