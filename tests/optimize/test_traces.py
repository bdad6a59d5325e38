"""A run as optimizers see it: its steps in DSPy's trace, each with its outcome."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from dspy.teleprompt.bootstrap_trace import FailedPrediction, bootstrap_trace_data

from dspy_rlm import RLM, RunFailedError
from dspy_rlm.testing import Action, Fault, PolicyServer, Raw, scripted

SLIP = Raw("I would rather talk about it.")


@pytest.fixture
def run_traced():
    """Runs an RLM with these moves; returns its trace, and the error if it failed."""

    def run(*moves, call=lambda rlm: rlm(text="abc"), faults=None, **options):
        with PolicyServer({"traced": scripted(*moves)}, faults=faults) as server:
            lm = server.lm("traced")
            options = {"interpreter_factory": dspy.LocalInterpreter, **options}
            rlm = RLM("text -> n: int", **options)
            with dspy.context(lm=lm, trace=[]):
                try:
                    call(rlm)
                    error = None
                except RunFailedError as caught:
                    error = caught
                return dspy.settings.trace, error

    return run


def outcomes(trace):
    return [prediction["output"] for _, _, prediction in trace]


class TestOutcomes:
    @pytest.mark.parametrize("way", ["forward", "aforward"])
    def test_each_step_says_what_came_of_it(self, run_traced, way):
        """Each entry of the trace has the code with its output, error or submission."""

        def call(rlm):
            return rlm(text="abc") if way == "forward" else asyncio.run(rlm.acall(text="abc"))

        trace, _ = run_traced(
            Action("", "print(len(text))"), Action("", "1/0"), Action("", "SUBMIT(3)"), call=call
        )
        first, second, third = outcomes(trace)

        assert first == "3"
        assert "division by zero" in second
        assert third == "SUBMIT: n"
        assert [inputs["iteration"].partition(" of")[0] for _, inputs, _ in trace] == [
            "Turn 1",
            "Turn 2",
            "Turn 3",
        ]

    def test_the_outcome_is_no_field_of_the_prompt(self, run_traced):
        """The outcome is not a field of the prompt: the predictor still asks for reasoning and code."""
        trace, _ = run_traced(Action("", "SUBMIT(3)"))

        assert list(trace[0][0].signature.output_fields) == ["reasoning", "code"]

    def test_code_that_is_none_has_an_outcome_too(self, run_traced):
        """A reply without code has an outcome too: optimizers see the message to the LM."""
        trace, _ = run_traced(Action("", ""), Action("", "SUBMIT(3)"))

        assert outcomes(trace)[0].startswith("[Error]")

    def test_an_unreadable_reply_is_kept_as_a_failed_prediction(self, run_traced):
        """An unreadable reply is a failed prediction: GEPA's proposer sees it, and it never becomes a demo."""
        trace, _ = run_traced(SLIP, Action("", "SUBMIT(3)"))
        _, inputs, failed = trace[0]
        demo = dspy.Example(augmented=True, **inputs, **failed)
        predictor = RLM("a -> b").generate_action
        predictor.demos = [demo]

        assert isinstance(failed, FailedPrediction)
        assert failed.completion_text == SLIP.text
        assert outcomes(trace)[0].startswith("[Error] No code was run")
        assert predictor.demos == []


class Broken(dspy.LocalInterpreter):
    """An interpreter that dies in its second cell."""

    cells = 0

    def execute(self, code, variables=None):
        self.cells += 1
        if self.cells == 2:
            raise dspy.CodeInterpreterError("out of memory")
        return super().execute(code, variables)


class TestFailedRuns:
    moves = (Action("", "print(1)"), Action("", "print(2)"))

    def test_the_step_that_killed_a_run_says_so(self, run_traced):
        """The trace ends with a failed prediction, the error has the run."""
        trace, error = run_traced(
            *self.moves, call=lambda rlm: rlm(text="abc"), interpreter_factory=Broken
        )

        assert "The run ended here" in outcomes(trace)[1]
        assert "out of memory" in trace[-1][2].completion_text
        assert error.run.iterations == 1

    def test_bootstrapping_keeps_a_run_that_died(self):
        """A run that died is kept for GEPA's reflection, although DSPy drops programs that raise."""
        example = dspy.Example(text="abc").with_inputs("text")
        with PolicyServer({"traced": scripted(*self.moves)}) as server:
            rlm = RLM("text -> n: int", interpreter_factory=Broken)
            with dspy.context(lm=server.lm("traced")):
                (kept,) = bootstrap_trace_data(
                    rlm, [example], metric=lambda *_: 1.0, num_threads=1, raise_on_error=False
                )

        assert isinstance(kept["prediction"], FailedPrediction)
        assert "out of memory" in kept["prediction"].completion_text
        first = next(p for _, _, p in kept["trace"] if isinstance(p, FailedPrediction))
        assert "out of memory" in first.completion_text
        inputs = next(i for _, i, p in kept["trace"] if p is first)
        assert set(inputs) == {"variables_info", "repl_history", "iteration"}

    def test_no_optimizer_learns_from_an_lm_that_is_down(self, run_traced):
        """A failure that no prompt caused adds nothing to the trace."""
        trace, error = run_traced(
            *self.moves, faults={"traced": Fault(status=500, after=1, times=None)}
        )

        assert len(trace) == 1
        assert not isinstance(error, dspy.utils.exceptions.AdapterParseError)


class TestNestedRuns:
    @pytest.mark.parametrize("same", [True, False])
    def test_a_run_inside_a_run_is_not_taken_for_its_own(self, same):
        """Steps with the same instruction stay out of the outer trace; a program's others are there."""
        inner = RLM("text -> n: int", interpreter_factory=dspy.LocalInterpreter)

        def ask(text: str) -> int:
            return inner(text=text).n

        outer = RLM("text -> n: int", interpreter_factory=dspy.LocalInterpreter, tools=[ask])
        instructions = outer.generate_action.signature.instructions if same else "Another."
        inner.generate_action.signature = outer.generate_action.signature.with_instructions(
            instructions
        )
        move = Action("", "SUBMIT(ask(text + 'd') if len(text) == 3 else len(text))")
        with (
            PolicyServer({"traced": scripted(move)}) as server,
            dspy.context(lm=server.lm("traced"), trace=[]),
        ):
            assert outer(text="abc").n == 4
            predictors = [predictor for predictor, _, _ in dspy.settings.trace]

        assert outer.generate_action in predictors
        assert (inner.generate_action in predictors) is not same
