"""Validators: the user's functions that accept the outputs, or send them back to the LM with a reason."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import dspy
import pytest
from submitting import a_total_above_100

from dspy_rlm import RLM, RunFailedError, SignatureError, ValidatorError
from dspy_rlm.budget.budget import Budget
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.evidence.validators import bound
from dspy_rlm.runs.run import Run
from dspy_rlm.signatures.outputs import ReplyError
from sandbox_runtime import Submitted

SIGNATURE = dspy.Signature("doc: str, least: int -> answer: str, total: int")
INPUTS = {"doc": "a document", "least": 3}
OUTPUTS = {"answer": "yes", "total": 2}


def objections(*validators: Any, outputs: dict[str, Any] = OUTPUTS) -> str:
    """The message with which these validators refuse the outputs; empty if they accept them."""
    try:
        Answers(SIGNATURE, inputs=INPUTS, validators=validators).submitted(outputs)
    except ReplyError as refusal:
        return str(refusal)
    return ""


def a_total_that_is_large_enough(outputs, inputs):
    """The total reaches the least."""
    return outputs.total >= inputs["least"]


class TestResults:
    @pytest.mark.parametrize("result", [None, True, "", " ", [], (True, "fine"), (True, "")])
    def test_accepted(self, result):
        """A validator accepts with `None`, `True`, or no reason."""
        assert objections(lambda outputs: result) == ""

    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            (False, "- check does not hold: The rule."),
            ("too small", "- too small"),
            (["too small", "", "too old"], "- too small\n- too old"),
            ((False, "too small"), "- too small"),
            ((False, None), "- check does not hold: The rule."),
        ],
    )
    def test_objected(self, result, reason):
        """It objects with `False`, a text, several, or a pair; its documentation is the reason that it does not give."""

        def check(outputs):
            """The rule.

            And more on it.
            """
            return result

        assert reason in objections(check)

    def test_errors_that_object(self):
        """`ValueError` and `AssertionError` object; an assertion without a message shows its code."""

        def by_value(outputs):
            raise ValueError("the total is odd")

        message = objections(by_value, a_total_above_100)

        assert "- the total is odd" in message
        assert "- a_total_above_100 does not hold: assert total > 100" in message

    @pytest.mark.parametrize("result", [0.5, 1, object(), {"ok": False}, [1]])
    def test_a_result_of_another_kind_is_a_mistake(self, result):
        """A number, as a metric returns it, says neither yes nor no."""
        with pytest.raises(ValidatorError, match="returned"):
            objections(lambda outputs: result)

    def test_secrets_do_not_reach_the_lm(self):
        """The reason of an objection passes the same filter as all errors."""
        key = "sk-proj-" + "a1B2" * 10

        assert key not in objections(lambda outputs: f"the service refused {key}")

    def test_a_long_reason_is_cut(self):
        """One reason cannot fill the prompt."""
        assert len(objections(lambda outputs: "x" * 100_000)) < 2_000


class TestParameters:
    @pytest.mark.parametrize(
        "validator",
        [
            lambda outputs, inputs: outputs["answer"] == "yes" and inputs.least == 3,
            lambda inputs, outputs: outputs.total == 2 and inputs["doc"] == "a document",
            lambda args, pred: pred.total == 2 and args["least"] == 3,
            lambda example, pred, trace=None: pred.total == 2 and trace is None,
            lambda o, i: o.total == 2 and i.least == 3,
            lambda o: o.answer == "yes",
            lambda answer, total: (answer, total) == ("yes", 2),
            lambda total, least: (total, least) == (2, 3),
            lambda total, *, doc, other=1: (total, doc, other) == (2, "a document", 1),
            lambda **fields: fields == {**INPUTS, **OUTPUTS},
            lambda total, **others: total == 2 and others.keys() == {"answer", "doc", "least"},
            lambda *both: (both[0].total, both[1].least) == (2, 3),
            lambda total, /: total == 2,
        ],
    )
    def test_parameters_get_what_they_name(self, validator):
        """All outputs and inputs, or fields by name; with any other names, the outputs and then the inputs."""
        assert objections(validator) == ""

    @pytest.mark.parametrize(
        ("validator", "problem"),
        [
            (lambda answer, page: True, "'page', which is no field"),
            (lambda answr: True, "'answr', which is no field"),
            (lambda a, b, c: True, "'a', which is no field"),
            (lambda: True, "takes no argument"),
            ("answer > 3", "no function"),
            (int, "no function"),
        ],
    )
    def test_a_validator_that_cannot_be_called_is_refused_by_the_constructor(
        self, validator, problem
    ):
        """Before any run, with the names of the fields."""
        with pytest.raises(SignatureError, match=problem):
            RLM(SIGNATURE, validators=[validator])

    @pytest.mark.parametrize("validators", ["check", 3, {"check": len}])
    def test_validators_are_a_list(self, validators):
        """Anything but functions is refused."""
        with pytest.raises(SignatureError, match="validators must be a list"):
            RLM(SIGNATURE, validators=validators)

    def test_a_single_function_is_a_list_of_one(self):
        """`validators=check` means what it says."""
        rlm = RLM(SIGNATURE, validators=a_total_that_is_large_enough)

        assert rlm.validators == (a_total_that_is_large_enough,)

    def test_a_validator_cannot_change_the_outputs(self):
        """It gets a container of its own."""

        def change(outputs):
            outputs.total = 9

        done = Answers(SIGNATURE, inputs=INPUTS, validators=[change]).submitted(OUTPUTS)

        assert done["total"] == 2

    def test_fields_may_have_any_name(self):
        """Also those of DSPy's own arguments and attributes."""
        signature = dspy.Signature("base, outputs -> items: int, keys: int")
        inputs = {"base": "b", "outputs": "o"}

        def check(outputs, prediction, inputs, keys):
            assert (outputs, keys) == ("o", 2)
            assert (prediction["items"], inputs["base"]) == (1, "b")

        answers = Answers(signature, inputs=inputs, validators=[check])

        assert answers.submitted({"items": 1, "keys": 2}) == {"items": 1, "keys": 2}

    def test_the_outputs_of_a_validator_are_those_it_takes(self):
        """Only these are asked for again."""
        assert bound(lambda total, doc: True, SIGNATURE).outputs == ("total",)
        assert bound(lambda doc: True, SIGNATURE).outputs == ("answer", "total")
        assert bound(lambda o: True, SIGNATURE).outputs == ("answer", "total")

    def test_validators_are_copied_and_saved_with_the_module(self):
        """A copy and a pickle have them too."""
        rlm = RLM(SIGNATURE, validators=[a_total_that_is_large_enough])

        assert rlm.deepcopy().validators == rlm.validators
        (loaded,) = pickle.loads(pickle.dumps(rlm)).validators
        assert loaded.__name__ == "a_total_that_is_large_enough"


def turn(run: Run, **outputs: Any) -> None:
    """One turn of the run that submits these outputs."""
    run.read(dspy.Prediction(reasoning="", code="SUBMIT(...)"))
    run.observe(Submitted(outputs, ""))


def run_with(*validators: Any, **budget: Any) -> Run:
    """A run of the signature with these validators."""
    answers = Answers(SIGNATURE, inputs=INPUTS, validators=validators)
    return Run(SIGNATURE, [], Budget(**budget), answers=answers)


class TestRuns:
    def test_the_reason_is_the_observation_of_the_refused_submit(self):
        """The run goes on; a corrected submission ends it."""
        run = run_with(a_total_that_is_large_enough)

        turn(run, answer="yes", total=2)
        shown = run.action_inputs()["repl_history"]
        turn(run, answer="yes", total=3)

        assert "SUBMIT was refused, the run goes on" in shown
        assert "a_total_that_is_large_enough does not hold: The total reaches the least." in shown
        assert run.outputs == {"answer": "yes", "total": 3}
        assert run.prediction().run.turns_lost == {"refused_submit": 1}

    def test_validators_see_typed_outputs_only(self):
        """A submission that does not fit its types is refused before them."""
        seen = []
        run = run_with(lambda total: seen.append(total))

        turn(run, answer="yes", total="many")
        turn(run, answer="yes", total="3")

        assert seen == [3]

    def test_the_last_turn_gets_one_more(self):
        """As for any other refused submission; only the outputs that were objected to are extracted."""
        run = run_with(
            lambda total: "" if total > 5 else "the total is too small", max_iterations=1
        )

        turn(run, answer="yes", total=2)
        assert not run.over
        turn(run, answer="yes", total=3)
        run.keep_submitted()

        assert run.over
        assert run.outputs is None
        assert run.extraction.missing == ["total"]

    def test_extracted_outputs_are_validated(self):
        """The extraction is asked again with the reason, for the outputs of the validator."""
        run = run_with(lambda total: "" if total > 5 else "the total is too small")

        run.extract({"answer": "yes", "total": 2})
        assert run.extraction.problem == "- the total is too small"
        assert run.extraction.missing == ["total"]
        run.extract({"total": 6})

        assert run.outputs == {"answer": "yes", "total": 6}

    def test_an_extraction_that_never_satisfies_fails_with_the_reason(self):
        """After the last request there are no outputs."""
        run = run_with(lambda total: "the total is too small")
        run.extract({"answer": "yes", "total": 2})
        run.extract({"total": 2})

        with pytest.raises(dspy.AdapterParseError, match="the total is too small"):
            run.extract({"total": 2})

    def test_a_failing_validator_ends_the_run_with_the_outputs(self):
        """It is a mistake of the program, which no LM can correct; the report has what was submitted."""
        run = run_with(lambda outputs: {}["no such key"])

        with pytest.raises(ValidatorError, match="KeyError") as caught:
            turn(run, answer="yes", total=2)

        report = run.fail(caught.value)
        assert isinstance(caught.value.__cause__, KeyError)
        assert (report.status, report.stopped_by) == ("failed", "ValidatorError")
        assert report.partial_outputs == OUTPUTS


class TestWithTheSandbox:
    def test_a_coroutine_runs_on_the_event_loop_of_the_caller(self, play):
        """In `aforward`; the submission is refused, and accepted when it is corrected."""
        loops = []

        async def check(n):
            loops.append(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return "" if n == 2 else "n must be 2"

        rlm, _ = play("q -> n: int", "SUBMIT(1)", "SUBMIT(2)", validators=[check])

        async def main():
            return await rlm.acall(q="?"), asyncio.get_running_loop()

        prediction, loop = asyncio.run(main())

        assert prediction.n == 2
        assert loops == [loop, loop]
        assert "n must be 2" in prediction.trajectory[0]["output"]

    def test_a_coroutine_validates_a_synchronous_run_too(self, play):
        """Also one that is called inside of a running event loop, as in a notebook."""

        async def check(n):
            await asyncio.sleep(0)
            return n == 2

        rlm, _ = play("q -> n: int", "SUBMIT(1)", "SUBMIT(2)", validators=[check])

        async def notebook():
            return rlm(q="?")

        assert asyncio.run(notebook()).n == 2

    def test_a_validator_may_call_an_lm_with_the_settings_of_the_caller(self, play):
        """The run's own adapter, which expects code, is not in its way."""
        judged = []

        def check(n):
            judged.append(type(dspy.settings.adapter).__name__)

        rlm, _ = play("q -> n: int", "SUBMIT(2)", validators=[check])
        rlm(q="?")

        assert judged == ["ChatAdapter"]

    def test_sub_runs_have_none(self, play):
        """A validator is about the outputs of the run that has it."""
        rlm, server = play(
            "q -> n: int",
            "SUBMIT(sub_rlm('part -> n: int', part='?').n - 1 if 'q' in globals() else 2)",
            validators=[lambda n: n == 1],
        )
        rlm.sub_lm = server.lm("root")

        prediction = rlm(q="?")

        assert (prediction.n, prediction.run.iterations) == (1, 1)

    def test_the_error_of_a_validator_reaches_the_caller(self, play):
        """With the report of the run, and its cause chained."""
        rlm, _ = play("q -> n: int", "SUBMIT(2)", validators=[lambda n: n / 0])

        with pytest.raises(RunFailedError, match="ZeroDivisionError") as caught:
            rlm(q="?")

        assert isinstance(caught.value.__cause__, ValidatorError)
        assert caught.value.run.partial_outputs == {"n": 2}
