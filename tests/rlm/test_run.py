"""The decisions of a run, without LM and sandbox."""

from __future__ import annotations

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspy_rlm.budget.budget import Budget
from dspy_rlm.events import (
    ActionChosen,
    IterationStarted,
    RunEnded,
    RunStarted,
    StepTaken,
    SubCallStarted,
)
from dspy_rlm.runs.run import Run
from sandbox_runtime import Completed, Failed, Submitted

SIGNATURE = dspy.Signature("q -> n: int")


def action(code: str, reasoning: str = "because") -> dspy.Prediction:
    return dspy.Prediction(reasoning=reasoning, code=code)


@pytest.fixture
def run() -> Run:
    return Run(SIGNATURE, [], Budget(max_iterations=3, max_llm_calls=5))


class TestRun:
    def test_a_step_is_shown_in_the_next_prompt(self, run):
        """The next prompt shows a step's reasoning, code and output, with the exact number of characters."""
        assert run.read(action("print(1)")) == "print(1)"
        run.observe(Completed("1\n"))

        assert run.action_inputs() == {
            "variables_info": "",
            "repl_history": (
                "=== Step 1 ===\nReasoning: because\nCode:\n```python\nprint(1)\n```\nOutput (1 chars):\n1"
            ),
            "iteration": "Turn 2 of 3; 5 sub-LM prompts left",
        }

    def test_the_first_prompt_says_that_nothing_has_happened(self, run):
        """The first prompt has a text in place of the history."""
        assert run.action_inputs()["repl_history"].startswith("You have not interacted")

    def test_silence_is_pointed_out(self, run):
        """A cell that printed nothing gets a hint instead of emptiness."""
        run.read(action("x = 1"))
        run.observe(Completed(""))

        assert "did you forget to print?" in run.action_inputs()["repl_history"]

    def test_a_failure_shows_output_and_traceback(self, run):
        """The step of a failed cell has the text printed before the error, then the traceback."""
        run.read(action("boom"))
        run.observe(Failed("KeyError", "'k'", "Traceback:\nKeyError: 'k'\n", "before\n"))

        assert run.steps[0].output == "before\nTraceback:\nKeyError: 'k'"

    def test_a_right_submit_ends_the_run(self, run):
        """The prediction has the outputs, the trajectory and the report."""
        run.read(action("SUBMIT(3)"))
        run.observe(Submitted({"n": "3"}, "printed\n"))
        prediction = run.prediction()

        assert run.over
        assert prediction.n == 3
        assert prediction.trajectory == [
            {"reasoning": "because", "code": "SUBMIT(3)", "output": "printed\nSUBMIT: n"}
        ]
        assert prediction.final_reasoning == "because"
        assert (prediction.run.status, prediction.run.stopped_by) == ("submitted", "SUBMIT")

    def test_a_wrong_submit_is_a_step(self, run):
        """A wrong submission is a step, which the LM may correct while turns are left."""
        run.read(action("SUBMIT('x')"))
        run.observe(Submitted({"n": "x"}))

        assert not run.over
        assert "n: expected int" in run.steps[0].output

    def test_a_slip_takes_a_turn(self, run):
        """Replies without code count, so that a run ends in any case."""
        for _ in range(3):
            assert run.read(action("```sql\nselect\n```")) is None

        assert run.over
        assert run.outputs is None

    def test_an_unreadable_reply_is_shown_back_abridged(self, run):
        """An unreadable reply is shown to the LM, abridged."""
        run.read_unparsed(AdapterParseError("ChatAdapter", SIGNATURE, "blah " * 10_000))

        assert "no code that could be recognized" in run.steps[0].output
        assert len(run.steps[0].output) < 2500

    def test_the_extracted_outputs_are_the_prediction(self, run):
        """Extracted outputs become the prediction, and the report says that they were not submitted."""
        run.extract(dspy.Prediction(n=9))

        assert run.prediction().n == 9
        assert run.prediction().run.status == "extracted"

    def test_a_failed_run_keeps_its_steps(self, run):
        """The report names the exception and has everything so far."""
        run.read(action("1"))
        run.observe(Completed("1"))
        report = run.fail(TimeoutError("slow"))

        assert (report.status, report.stopped_by) == ("failed", "TimeoutError")
        assert report.trajectory[0]["output"] == "1"

    def test_whoever_watches_sees_every_event(self):
        """Observers get every event in order: start, iteration, action, step, end, and sub-calls in between."""
        seen: list[object] = []
        run = Run(SIGNATURE, [], Budget(), [seen.append])
        run.start()
        run.read(action("SUBMIT(1)"))
        run.sub_call("predict_batched", 3)
        run.observe(Submitted({"n": 1}))
        run.prediction()

        assert [type(event) for event in seen] == [
            RunStarted,
            IterationStarted,
            ActionChosen,
            SubCallStarted,
            StepTaken,
            RunEnded,
        ]
        assert (seen[1].number, seen[3].number, seen[3].count) == (1, 1, 3)
        assert seen[-1].outputs == {"n": 1}

    def test_an_action_that_cannot_run_is_told_as_such(self):
        """Code that cannot run is shown but not announced as running."""
        seen: list[object] = []
        run = Run(SIGNATURE, [], Budget(), [seen.append])
        run.read(action("```js\nx\n```"))

        assert [type(event) for event in seen] == [ActionChosen, StepTaken, IterationStarted]
        assert not seen[0].runs


def test_nothing_is_told_after_the_end():
    """No event follows the end, even if a cancelled run is still reading outputs in a thread."""
    seen = []
    run = Run(SIGNATURE, [], Budget(), [seen.append])
    run.read(action("print(1)"))
    run.fail(RuntimeError("cancelled"))
    run.observe(Completed("1\n"))
    run.sub_call("sub_llm", 1)

    assert [type(event) for event in seen] == [ActionChosen, RunEnded]
