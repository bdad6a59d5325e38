"""The decisions of a run, without LM and sandbox."""

from __future__ import annotations

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspy_rlm.budget.allowance import Allowance
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
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


PAIR = dspy.Signature("q -> n: int, pairs: list[int]")


class TestARefusedLastSubmit:
    """A SUBMIT that is refused in the last turn gets one more turn, and what fitted of it is kept."""

    def submit(self, run: Run, **values: object) -> None:
        run.read(action("SUBMIT(n, pairs)"))
        run.observe(Submitted(values))

    def test_the_run_gets_one_more_turn(self):
        """The observation and the line of the turn say what it is for; it counts as a turn of the run."""
        run = Run(PAIR, [], Budget(max_iterations=1))
        self.submit(run, n="x", pairs=[1])

        assert not run.over
        assert run.steps[0].output.endswith("\nOne more turn, only to SUBMIT again.")
        assert run.action_inputs()["iteration"] == "One more turn, only to SUBMIT again."
        assert run.budget_left()["turns"] == 0

        self.submit(run, n=3, pairs=[1])
        report = run.prediction().run
        assert (report.status, report.iterations) == ("submitted", 2)

    def test_there_is_only_one(self):
        """A second refusal ends the turns, and only the outputs that fitted in neither are extracted."""
        run = Run(PAIR, [], Budget(max_iterations=1))
        self.submit(run, n="x", pairs=[1])
        self.submit(run, n="y", pairs=[1, 2])

        assert run.over
        assert run.steps[1].output.endswith("Correct this and SUBMIT again.")
        run.keep_submitted()
        assert run.outputs is None
        assert run.extraction.missing == ["n"]
        run.extract({"n": 7})
        assert run.prediction().toDict()["pairs"] == [1, 2]

    def test_what_fitted_stays_through_a_last_turn_that_fails(self):
        """The one more turn may have an error of its own; the outputs of the refused SUBMIT stay."""
        run = Run(PAIR, [], Budget(max_iterations=1))
        self.submit(run, n="x", pairs=[1])
        run.read(action("SUBMIT(n, pears)"))
        run.observe(Failed("NameError", "name 'pears' is not defined", "NameError: pears\n"))
        run.keep_submitted()

        assert run.over
        assert run.extraction.kept == {"pairs": [1]}

    def test_values_that_the_run_has_gone_on_from_are_not_kept(self):
        """A refused SUBMIT in the middle of a run is followed by other work, so the extraction decides."""
        run = Run(PAIR, [], Budget(max_iterations=3))
        self.submit(run, n="x", pairs=[1])
        for _ in range(2):
            run.read(action("look()"))
            run.observe(Completed("more\n"))
        run.keep_submitted()

        assert run.over
        assert run.extraction.kept == {}

    def test_wrong_arguments_are_a_refusal_too(self):
        """A SUBMIT that lacks an output never leaves the sandbox, and costs no answer either."""
        run = Run(PAIR, [], Budget(max_iterations=1))
        run.read(action("SUBMIT(n)"))
        message = "SUBMIT() is missing 'pairs'. Call SUBMIT(n: int, pairs: list)."
        run.observe(Failed("TypeError", message, f"TypeError: {message}\n"))

        assert not run.over
        assert run.steps[0].output.endswith("[Note] One more turn, only to SUBMIT again.")

    def test_the_limit_of_errors_gives_no_more(self):
        """`max_errors` is for an LM that repeats its errors; what fitted is kept there too."""
        run = Run(PAIR, [], Budget(max_iterations=9, max_errors=1))
        self.submit(run, n="x", pairs=[1])
        run.keep_submitted()

        assert run.over
        assert run.extraction.missing == ["n"]

    def test_without_budget_there_is_none(self):
        """A turn that cannot be paid for is not promised."""
        ledger = Ledger(Budget(max_iterations=1, max_llm_calls=0))
        run = Run(PAIR, [], ledger.budget, ledger=ledger, depth=1, allowance=Allowance(ledger))
        self.submit(run, n="x", pairs=[1])

        assert run.over
        assert "One more turn" not in run.steps[0].output
