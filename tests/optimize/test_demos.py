"""Demos: only steps are taken, and a prompt shows them in short."""

from __future__ import annotations

import dspy

from benchmarks.counting import COUNT, COUNTING, LOOKING, TRAINSET
from dspy_rlm import RLM, Step
from dspy_rlm.predictor import DEMO_OUTPUT_CHARS, shown_demos
from dspy_rlm.prompts.history import abridge_history, render_steps
from dspy_rlm.testing.history import History

LONG = "z" * 50_000
STEPS = [
    Step("One.", "print('```\\nOutput (3 chars):\\n')", LONG),
    Step("", "text = '''\n```\nOutput (9 chars):\nabc'''", "short\nlines"),
    Step("Three.", "print(3)", LONG),
]


def test_examples_of_the_task_are_no_demos_of_a_step():
    """Examples of the task are not kept as demos: they have no code, and their inputs may be huge."""
    compiled = dspy.LabeledFewShot(k=2).compile(RLM(COUNT), trainset=TRAINSET)

    assert compiled.generate_action.demos == []


def test_an_input_that_is_called_code_does_not_make_an_example_a_step():
    """A step says at least where in a run it stands."""
    rlm = RLM("code: str -> bug: str")
    rlm.generate_action.demos = [
        dspy.Example(code="x = 1", bug="none").with_inputs("code"),
        {"code": "SUBMIT('none')", "iteration": "1/20"},
    ]

    assert [demo["code"] for demo in rlm.generate_action.demos] == ["SUBMIT('none')"]


def test_the_last_step_of_a_run_shows_the_whole_run(server):
    """Its history has every step before it, with the outcome of each."""
    teacher, pupil = (RLM(COUNT, interpreter_factory=dspy.LocalInterpreter) for _ in range(2))
    teacher(log="easy log\nERROR\n")
    *_, (_, inputs, step) = dspy.settings.trace
    pupil.generate_action.demos = [dspy.Example(augmented=True, **inputs, **step)]
    pupil(log="hard log\nERROR\n")
    _, user, assistant, *_ = server.requests[-1].messages

    assert LOOKING in user.text
    assert "Output (8 chars):\neasy log" in user.text
    assert COUNTING in assistant.text


def test_long_outputs_of_a_demo_are_cut_when_it_is_shown(server):
    """The stored demo stays whole; the text that every call pays for is short."""
    rlm = RLM(COUNT, interpreter_factory=dspy.LocalInterpreter)
    history = render_steps(STEPS)
    rlm.generate_action.demos = [
        {
            "variables_info": "v" * 9000,
            "repl_history": history,
            "iteration": "4/20",
            "reasoning": "r",
            "code": "SUBMIT(3)",
        }
    ]
    rlm(log="easy log\nERROR\n")
    message = server.requests[0].messages[1].text

    assert "[[ ## repl_history ## ]]\n=== Step 1 ===" in message
    assert len(message) < 2 * DEMO_OUTPUT_CHARS + 3500
    assert rlm.generate_action.demos[0]["repl_history"] == history


def test_a_cut_history_can_still_be_read_step_by_step():
    """The lengths it states are those of what it shows, even where code looks like output."""
    cut = History(abridge_history(render_steps(STEPS), 100), exact=True)
    outputs = [cut.read_step(None).output for _ in STEPS]

    assert cut.finished
    assert outputs[1] == "short\nlines"
    assert outputs[0] == outputs[2]
    assert outputs[0].startswith("z" * 50 + "\n... (49,900 characters omitted)")


def test_a_demo_of_another_kind_of_history_is_shown_as_it_is():
    """A demo with another kind of history, as in the state of `dspy.RLM`, is shown unchanged."""
    demo = {"code": "SUBMIT(1)", "repl_history": {"entries": []}}

    assert shown_demos([demo]) == [demo]
