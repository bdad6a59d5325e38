"""Runs as training data: the very messages that the LM saw, and its replies."""

from __future__ import annotations

import json

import dspy
import pytest
from dspy.teleprompt.bootstrap_finetune import build_call_data_from_trace

from benchmarks.counting import COUNT, DEVSET, metric, score
from dspy_rlm import RLM
from dspy_rlm.dspy_bridge.traces import FailedStep
from dspy_rlm.optimize import collect, export, inline_contract
from dspy_rlm.testing import Action, PolicyServer, Raw, scripted


@pytest.fixture
def program():
    return RLM(COUNT, interpreter_factory=dspy.LocalInterpreter, max_iterations=3)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_is_what_the_lm_saw_and_said(server, program, tmp_path):
    """A row has the chat of one step, with its outcome and the score of the run."""
    path = tmp_path / "runs.jsonl"
    count = export(path, program, collect(program, DEVSET, metric, num_threads=1))
    written = rows(path)
    seen = [[(m.role, m.text) for m in exchange.messages] for exchange in server.requests]

    assert count == len(written) == 4
    assert [[(m["role"], m["content"]) for m in row["messages"]] for row in written] == seen
    assert written[1]["completion"]["content"].startswith("[[ ## reasoning ## ]]\nCount the easy")
    assert [(row["run"], row["step"], row["steps"], row["score"]) for row in written] == [
        (0, 1, 2, 1.0),
        (0, 2, 2, 1.0),
        (1, 1, 2, 0.0),
        (1, 2, 2, 0.0),
    ]
    assert written[0]["outcome"] == "easy log"
    assert {row["format"] for row in written} == {1}


def test_for_supervised_training_only_good_runs_are_kept(server, program, tmp_path):
    """Supervised training data has good runs only."""
    path = tmp_path / "good.jsonl"
    export(path, program, collect(program, DEVSET, metric, num_threads=1), min_score=1.0)

    assert {row["run"] for row in rows(path)} == {0}


def test_unreadable_replies_are_there_for_reinforcement(program, tmp_path):
    """Unreadable replies are exported with the LM's original text; supervised training leaves them out."""
    moves = [Raw("Let me think."), Action("", "SUBMIT(2)")]
    with PolicyServer({"slips": scripted(*moves)}) as server, dspy.context(lm=server.lm("slips")):
        data = collect(program, DEVSET[:1], metric, num_threads=1)
    everything, good = tmp_path / "all.jsonl", tmp_path / "good.jsonl"
    export(everything, program, data)
    export(good, program, data, min_score=1.0)

    first, second = rows(everything)
    assert (first["readable"], first["completion"]["content"]) == (False, "Let me think.")
    assert [row["completion"] for row in rows(good)] == [second["completion"]]


def test_a_baked_program_has_its_contract_inside(server, program):
    """DSPy's fine-tuning then writes the prompt that the LM saw, and no run has the contract twice."""
    baked = inline_contract(program)
    text = baked.generate_action.signature.instructions

    assert text == program.action_signature().instructions
    assert "SUBMIT(count: int)" in text
    assert baked.action_signature().instructions == text
    assert "SUBMIT" not in program.generate_action.signature.instructions.partition("1. Look")[0]
    assert score(baked) == score(program)


def test_dspys_own_fine_tuning_data_has_the_contract_of_a_baked_program(server, program):
    """DSPy's fine-tuning data, which uses the predictor's signature from the trace, has the inlined contract."""
    with dspy.context(trace=[]):
        inline_contract(program)(**DEVSET[0].inputs())
        data = build_call_data_from_trace(dspy.settings.trace, 1, dspy.ChatAdapter())
    system, _, completion = data["messages"]

    assert system["content"] == server.requests[-1].request.system
    assert "Count the easy ones." in completion["content"]


def test_the_end_of_a_run_that_died_is_no_reply(program, tmp_path):
    """The trace has this entry for reflection; it is not exported, because no LM wrote it."""
    end = (program.generate_action, {}, FailedStep("It died.", "It died.", replied=False))
    data = [{"example_ind": 0, "example": DEVSET[0], "prediction": None, "trace": [end]}]

    assert export(tmp_path / "none.jsonl", program, data) == 0
