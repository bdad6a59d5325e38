"""A state that an earlier version saved after compiling still loads, and still makes the program better."""

from __future__ import annotations

import json
from pathlib import Path

import dspy
import pytest

from benchmarks.counting import COUNT, score
from dspy_rlm import RLM

STATES = Path(__file__).parents[1] / "data" / "compiled"


@pytest.mark.parametrize("name", ["replaced.json", "extended.json", "demos.json"])
def test_a_compiled_state_of_the_first_version(server, name):
    """Its text and its demos reach the LM, and the contract after them is that of today."""
    saved = json.loads((STATES / name).read_text("utf-8"))["generate_action"]
    rlm = RLM(COUNT, interpreter_factory=dspy.LocalInterpreter, max_iterations=3)
    before = score(rlm)

    rlm.load(STATES / name)

    assert (before, score(rlm)) == (50.0, 100.0)
    assert rlm.generate_action.signature.instructions == saved["signature"]["instructions"]
    assert len(rlm.generate_action.demos) == len(saved["demos"])
    request = server.requests_to("root")[-1].request
    whole = rlm.action_signature().instructions
    assert " ".join(whole.split()) in " ".join(request.system.split())
    assert whole.startswith(saved["signature"]["instructions"])
    assert whole.count("# The REPL\n") == 1
    written = "\n".join(message.text for message in request.messages)
    for demo in saved["demos"]:
        assert demo["code"] in written


def test_the_files_have_what_they_are_for():
    """Two have a text of an optimizer, one has demos; the names of the fields are those of that version."""
    states = {
        path.name: json.loads(path.read_text("utf-8"))["generate_action"]
        for path in STATES.iterdir()
    }

    assert {name: bool(state["demos"]) for name, state in states.items()} == {
        "replaced.json": False,
        "extended.json": False,
        "demos.json": True,
    }
    fields = [field["prefix"] for field in states["demos.json"]["signature"]["fields"]]
    assert fields == ["Variables Info:", "Repl History:", "Iteration:", "Reasoning:", "Code:"]
