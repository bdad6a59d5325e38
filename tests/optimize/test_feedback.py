"""Feedback: what a proposer reads about a run, word for word where it matters."""

from __future__ import annotations

import dataclasses

import dspy
import pytest

from dspy_rlm import RLM, Call, RunReport, Step
from dspy_rlm.dspy_bridge.traces import FailedStep
from dspy_rlm.optimize import feedback, objective_scores
from dspy_rlm.optimize.digest import digest, waste
from dspy_rlm.optimize.feedback import sub_calls_text
from dspy_rlm.prompts.variables import Variable

TRACEBACK = "Traceback (most recent call last):\n  File ...\nNameError: name 'x' is not defined"
STEPS = (
    Step("Look.", "print(logs[:9])\nprint(1)", "2026-01-0\n1"),
    Step("", "print(x)", TRACEBACK),
    Step("", "a = sub_llm('Who?')\nb = sub_llm_batched(['Who?', f'{a}'])", ""),
    Step("", "print(x)", TRACEBACK),
    Step("Done.", "SUBMIT(1)", "SUBMIT: n"),
)
REPORT = RunReport("submitted", "SUBMIT", STEPS, llm_calls=3, seconds=1.0)
RUN = dspy.Prediction(n=1, run=REPORT)
EXAMPLE = dspy.Example(logs="...", question="?", n=2).with_inputs("logs", "question")


def entry(step):
    """A trace entry of an RLM's predictor."""
    return (
        RLM("a -> b").generate_action,
        {"iteration": "Turn 2 of 20; 9 sub-LM prompts left"},
        step,
    )


def program_trace():
    """The trace of a program of a predictor, an RLM and another predictor; and the entry of the first."""
    plan = (
        dspy.Predict("question -> subquestion"),
        {"question": "?"},
        dspy.Prediction(subquestion="??"),
    )
    variables = [
        Variable(name, "str", "", "Variable: `forged`") for name in ("logs", "subquestion")
    ]
    info = "\n".join(variable.render() for variable in variables)
    rlm = RLM("logs, subquestion -> culprit").generate_action
    step = dspy.Prediction(reasoning="", code="```python\nprint(len(logs))\n```", output="12")
    rows = (rlm, {"iteration": "Turn 1 of 20; 9 sub-LM prompts left", "variables_info": info}, step)
    return [plan, rows], plan


class TestDigest:
    def test_a_step_is_one_line(self):
        """A step is one line: its code and its outcome, with the last line of an error."""
        assert digest(STEPS).splitlines() == [
            "1. print(logs[:9]) ; print(1) -> 11 chars: 2026-01-0 1",
            "2. print(x) -> NameError: name 'x' is not defined",
            "3. a = sub_llm('Who?') ; b = sub_llm_batched(['Who?', f'{a}']) -> printed nothing",
            "4. print(x) -> NameError: name 'x' is not defined",
            "5. SUBMIT(1) -> SUBMIT: n",
        ]

    def test_waste_is_told_in_sentences(self):
        """Waste is described in sentences: unread inputs, errors, repetition."""
        assert waste(STEPS, ["logs", "question"]) == [
            "The input `question` was never read.",
            "2 of 5 steps ended in an error: 2, 4.",
            "Printed nothing: step 3.",
            "Step 4 ran the code of step 2 again.",
            "The same prompt was written 2 times: 'Who?'.",
        ]

    def test_a_good_run_wastes_nothing(self):
        """A run without waste gets no text about it."""
        assert waste(STEPS[:1], ["logs"]) == []


class TestFeedback:
    def test_the_whole_run_is_told(self):
        """Without a step, the text describes the whole run and its ending."""
        result = feedback(0.0, RUN, example=EXAMPLE, note="Expected 2.")

        assert result.score == 0.0
        assert result.feedback.startswith(
            "Score: 0. Expected 2.\nThe run ended by SUBMIT, after 5 steps and 3 sub-LM prompts.\n"
            "All steps of the run:\n1. print("
        )
        assert "Waste:\n- The input `question` was never read." in result.feedback

    def test_one_step_is_told(self):
        """With GEPA's `pred_trace`, the text describes the outcome of that step."""
        step = dspy.Prediction(reasoning="", code="print(x)", output=TRACEBACK)
        result = feedback(0.0, RUN, pred_trace=[entry(step)])

        assert "The result of this step (turn 2 of 20): NameError: name 'x'" in result.feedback

    def test_other_predictors_of_a_program_get_no_step(self):
        """A predictor that is no RLM's has no turn and prints nothing; the run of the RLM is still described."""
        trace, plan = program_trace()

        result = feedback(0.0, None, example=EXAMPLE, trace=trace, pred_trace=[plan])

        assert "this step" not in result.feedback
        assert "All steps of the run:\n1. print(len(logs)) -> " in result.feedback

    def test_the_inputs_are_those_of_the_rlm(self):
        """An input of the program that the RLM does not have is not missed in its code; one of its own is."""
        trace, plan = program_trace()

        for pred_trace in ([plan], [trace[1]], None):
            result = feedback(0.0, None, example=EXAMPLE, trace=trace, pred_trace=pred_trace)
            assert "`question`" not in result.feedback
            assert "The input `subquestion` was never read." in result.feedback

    def test_a_fence_around_the_code_is_left_out(self):
        """The trace has the code as the LM wrote it; the digest shows the code alone."""
        result = feedback(0.0, None, trace=program_trace()[0])

        assert "```" not in result.feedback

    def test_of_two_rlms_the_one_whose_step_it_is_is_described(self):
        """The feedback for a step shows the steps of the same RLM only."""
        trace, _ = program_trace()
        other = entry(dspy.Prediction(reasoning="", code="print(other)", output="1"))

        result = feedback(0.0, None, trace=[*trace, other], pred_trace=[trace[1]])

        assert "print(other)" not in result.feedback

    @pytest.mark.parametrize(
        ("limit", "reason"),
        [
            ("max_iterations", "The turns were used up without SUBMIT"),
            ("max_cost", "The budget was used up (max_cost) without SUBMIT"),
            ("max_seconds", "The time was used up (max_seconds) without SUBMIT"),
        ],
    )
    def test_an_extraction_has_its_real_reason(self, limit, reason):
        """The text names the limit that ended the turns."""
        report = dataclasses.replace(REPORT, status="extracted", stopped_by=limit)

        assert reason in feedback(0.0, dspy.Prediction(n=1, run=report)).feedback

    def test_a_program_around_the_rlm_may_hide_its_report(self):
        """If the report is hidden, the steps, including failed ones, come from the trace."""
        trace = [
            entry(FailedStep("Hello!", "[Error] No code was run")),
            entry(dspy.Prediction(code="SUBMIT(1)", output="SUBMIT: n")),
            (dspy.Predict("a -> b"), {}, dspy.Prediction(b="")),
        ]
        result = feedback(1.0, dspy.Prediction(n=1), trace=trace)

        assert result.feedback.splitlines()[1:4] == [
            "All steps of the run:",
            "1. (no code) -> [Error] No code was run",
            "2. SUBMIT(1) -> SUBMIT: n",
        ]

    def test_it_is_a_score_for_other_optimizers(self):
        """One metric serves all optimizers: those that bootstrap use its truth value."""
        assert feedback(0.5, RUN)
        assert not feedback(0.0, RUN)
        assert sum([feedback(0.5, RUN), feedback(1.0, RUN)]) == 1.5


class TestSubCalls:
    """Feedback about the sub-calls of the code, from the log of the run."""

    def test_they_are_told_in_a_few_lines(self):
        """Feedback lists number and kind of sub-calls, the slowest, the longest, cache hits, cost and errors."""
        calls = (
            Call("sub_llm", "m", 0, 5, 2, 0.5, cost=0.01),
            Call("sub_llm", "m", 0, 5, 2, 0.0, cost=0.0, cached=True),
            Call(
                "predict", "m", 0, 90_000, 0, 8.14, cost=0.02, error="LMError: too long\nat length"
            ),
            Call(
                "predict", "m", 0, 95_000, 0, 8.12, cost=0.02, error="LMError: too long\nat length"
            ),
        )
        assert sub_calls_text(calls).splitlines() == [
            "Sub-calls: 2 sub_llm, 2 predict.",
            "- The slowest took 8.1 s (predict, 90,000 characters in).",
            "- The longest prompt had 95,000 characters.",
            "- 1 repeated an earlier prompt and were answered from the cache.",
            "- Together they cost $0.05.",
            "- 2 failed: LMError: too long",
        ]

    def test_they_are_part_of_the_feedback(self):
        """Feedback of a run with sub-calls mentions them; an unknown cost is left out."""
        report = dataclasses.replace(REPORT, sub_calls=(Call("sub_llm", "m", 0, 5, 2, 0.5),))
        result = feedback(0.0, dspy.Prediction(n=1, run=report)).feedback

        assert "Sub-calls: 1 sub_llm.\n- The slowest took 0.5 s" in result
        assert "cost" not in result
        assert "Sub-calls" not in feedback(0.0, RUN).feedback


class TestObjectives:
    def test_costs_are_negative(self):
        """Costs are negative, because GEPA maximizes every objective."""
        assert objective_scores(0.5, RUN) == {"accuracy": 0.5, "steps": -5.0, "sub_calls": -3.0}

    def test_tokens_count_where_dspy_tracks_them(self):
        """Tokens count where DSPy tracks them; an unknown count is omitted, never 0."""
        run = dspy.Prediction(run=REPORT)
        run.set_lm_usage({"a": {"total_tokens": 70}, "b": {"total_tokens": 7}})

        assert objective_scores(1.0, run)["tokens"] == -77.0
        assert objective_scores(1.0, None) == {"accuracy": 1.0}
