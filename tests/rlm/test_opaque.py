"""`observations="opaque"`: the root LM sees metadata of a constant shape, and no content of an output."""

from __future__ import annotations

import re

import dspy
import pytest

from dspy_rlm import RLM
from dspy_rlm.budget.budget import Budget
from dspy_rlm.events import StepTaken
from dspy_rlm.prompts.instructions import OPAQUE_STRATEGY, STRATEGY
from dspy_rlm.runs.run import Run
from dspy_rlm.settings.history_options import HistoryOptions
from dspy_rlm.window.opaque import metadata_of
from sandbox_runtime import Completed, Failed, Submitted

OPAQUE = HistoryOptions(observations="opaque")
SHAPE = re.compile(
    r"\[Note\] The cell (completed|failed with [\w ]+( in line \d+)?)\. Output \(not shown\): text, characters: [\d,]+, "
    r"lines: [\d,]+\.( Definitions of earlier cells were lost\.)?"
)
SECRET = "the launch code is 4711"
TRACEBACK = f'Traceback (most recent call last):\n  File "<cell 1>", line 3, in <module>\nKeyError: {SECRET!r}\n'
ENDS = [
    Completed(""),
    Completed(f"{SECRET}\n" * 900),
    Completed(SECRET, state_lost=True),
    Failed("KeyError", SECRET, TRACEBACK, f"{SECRET}\n"),
    Failed("the launch code is 4711", "x", "Traceback", ""),
]


def observed(result, signature="q -> n: int"):
    """Returns the run and its only step."""
    run = Run(dspy.Signature(signature), [], Budget(max_iterations=9), view=OPAQUE)
    run.read(dspy.Prediction(reasoning="", code="look()"))
    run.observe(result)
    return run, run.steps[0]


class TestMetadata:
    @pytest.mark.parametrize("result", ENDS)
    def test_the_shape_is_constant_and_has_no_content(self, result):
        """Only the outcome, the type and the line of an error, and the size are shown: no output, and no message of an error."""
        run, step = observed(result)

        assert SHAPE.fullmatch(step.output)
        assert "launch" not in run.action_inputs()["repl_history"]

    def test_it_says_what_there_was(self):
        """Sizes are those of the whole output."""
        assert metadata_of(ENDS[1]) == (
            "[Note] The cell completed. Output (not shown): text, characters: 21,599, lines: 900."
        )
        assert metadata_of(ENDS[3]) == (
            "[Note] The cell failed with KeyError in line 3. Output (not shown): text, characters: 23, lines: 1."
        )
        assert "failed with an exception." in metadata_of(ENDS[4])

    def test_the_step_has_both(self):
        """The printed output is in the step, for the journal and for code, beside what the LM saw."""
        seen = []
        run = Run(dspy.Signature("q -> n"), [], Budget(), [seen.append], view=OPAQUE)
        run.read(dspy.Prediction(reasoning="", code="look()"))
        run.observe(ENDS[3])
        step = next(event for event in seen if isinstance(event, StepTaken)).step

        assert SECRET not in step.output
        assert step.whole.startswith(f"{SECRET}\nTraceback")
        assert run.past.all()[0]["output"] == step.whole


class TestOwnWords:
    def test_a_refused_submit_is_shown(self):
        """The harness's words about what the LM itself submitted are no output."""
        _, step = observed(Submitted({"n": "seven"}))

        assert SHAPE.match(step.output)
        assert "SUBMIT was refused" in step.output
        assert "n: expected int" in step.output

    def test_wrong_arguments_of_submit_are_shown(self):
        """Such a SUBMIT fails within the cell."""
        message = "SUBMIT() is missing 'n'. Call SUBMIT(n: int)."
        _, step = observed(Failed("TypeError", message, f"TypeError: {message}\n"))

        assert step.output.endswith(f"[Error] TypeError: {message}")

    def test_a_syntax_error_is_shown(self):
        """Its text is about the code of the LM, not about data."""
        message = "'[' was never closed (<cell 1>, line 1)"
        _, step = observed(Failed("SyntaxError", message, f"SyntaxError: {message}\n"))

        assert step.output.endswith(f"[Error] SyntaxError: {message}")

    def test_a_lost_sandbox_is_shown(self):
        """The end of the process is the harness's own report."""
        _, step = observed(Failed("SandboxDiedError", "out of memory"))

        assert step.output.endswith("[Error] SandboxDiedError: out of memory")

    def test_remarks_are_shown(self):
        """Remarks of functions of the REPL stay in the observation; a repeated cell is noticed too."""
        run, _ = observed(Completed("same\n"))
        run.note("2 of 9 rows failed.")
        run.read(dspy.Prediction(reasoning="", code="look()"))
        run.observe(Completed("same\n"))

        assert "[Note] 2 of 9 rows failed." in run.steps[1].output
        assert "do something else, or SUBMIT" in run.steps[1].output


class TestPrompt:
    def test_the_prompt_says_how_to_work(self):
        """Strategy and contract are those of an LM that sees no values, and contradict it nowhere."""
        rlm = RLM("text, q -> a", observations="opaque")
        text = rlm.action_signature().instructions

        assert OPAQUE_STRATEGY in text
        assert STRATEGY not in text
        assert "You do not see what it prints, only its size" in text
        assert "You see what it prints" not in text
        assert "print" not in OPAQUE_STRATEGY

    def test_a_run_can_be_solved(self, play):
        """A run that keeps values in variables has the answer, though no prompt had an output."""
        rlm, server = play(
            "text, q -> a: int",
            "parts = text.split(';')\nprint(parts)",
            "number = int(parts[2])\nassert number > 9\nprint(number)",
            "SUBMIT(number)",
            observations="opaque",
        )
        prediction = rlm(text="a;" + "b" * 5_000 + ";4711582093;" + "c" * 5_000, q="Which number?")

        assert prediction.a == 4711582093
        assert "Output (not shown): text, characters: 10," in server.requests[1].prompt
        assert "4711582093" not in server.requests[2].prompt
        assert prediction.run.steps[1].whole == "4711582093"
        assert [len(r.prompt) - len(server.requests[0].prompt) < 900 for r in server.requests] == [
            True
        ] * 3

    def test_sub_runs_work_alike(self):
        """The setting is one of the whole tree."""
        from dspy_rlm.rlm import _spawn
        from dspy_rlm.run_context import RunContext

        rlm = RLM("q -> a", observations="opaque")
        child = _spawn(rlm._config, RunContext.__new__(RunContext))

        assert child.observations == "opaque"
