"""The loop of a run, driven by a list of results: no model, no HTTP, no sandbox."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspy_rlm.budget.budget import Budget
from dspy_rlm.concurrency.threads import WorkerThread
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.runs.loop import AskRoot, Done, Extract, RunCell, adrive, drive, steps
from dspy_rlm.runs.run import Run
from sandbox_runtime import Completed, Failed, Submitted

SIGNATURE = dspy.Signature("question -> answer: int")


def action(code, reasoning="Because."):
    """A reply of the root LM."""
    return dspy.Prediction(reasoning=reasoning, code=code)


def unparsed(text):
    """A reply that DSPy's adapter could not read."""
    return AdapterParseError("ChatAdapter", SIGNATURE, text)


def played(results, **budget):
    """Drives a run by the results; the run, the requests it made, and the steps that were added."""
    run, made, added = Run(SIGNATURE, [], Budget(**budget)), [], []
    left = iter(results)

    def perform(request):
        made.append(request)
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return result

    drive(steps(run, lambda fields, step: added.append((fields, step))), perform)
    return run, made, added


def kinds(made):
    """The requests' kinds in short."""
    return [type(request).__name__ for request in made]


class TestSteps:
    def test_a_turn_asks_and_then_runs_the_cell(self):
        """The code of a reply goes to the sandbox, and a right submission ends the run."""
        run, made, _ = played([action("SUBMIT(4)"), Submitted({"answer": 4}, "")])

        assert kinds(made) == ["AskRoot", "RunCell"]
        assert made[1] == RunCell("SUBMIT(4)")
        assert run.outputs == {"answer": 4}

    def test_a_failed_cell_is_an_observation(self):
        """The next prompt shows what went wrong; the run goes on."""
        _, made, _ = played(
            [
                action("1 / 0"),
                Failed("ZeroDivisionError", "division by zero", traceback="Traceback: 1 / 0"),
                action("SUBMIT(4)"),
                Submitted({"answer": 4}, ""),
            ]
        )

        assert kinds(made) == ["AskRoot", "RunCell", "AskRoot", "RunCell"]
        assert "1 / 0" in made[2].fields["repl_history"]

    def test_a_reply_without_code_runs_no_cell(self):
        """The LM is asked again, and the slip is a step."""
        run, made, _ = played([action(""), action("SUBMIT(4)"), Submitted({"answer": 4}, "")])

        assert kinds(made) == ["AskRoot", "AskRoot", "RunCell"]
        assert run.steps[0].output.startswith("[Error]")

    def test_an_unreadable_reply_is_added_to_the_trace(self):
        """DSPy adds no entry for it, so the loop's caller does."""
        _, made, added = played(
            [unparsed("blah"), action("SUBMIT(4)"), Submitted({"answer": 4}, "")]
        )

        assert kinds(made) == ["AskRoot", "AskRoot", "RunCell"]
        assert [fields for fields, _ in added] == [made[0].fields]

    def test_the_last_turn_is_followed_by_the_extraction(self):
        """With no turn left the outputs are asked for, from the whole history."""
        run, made, _ = played(
            [action("print(4)"), Completed("4"), dspy.Prediction(answer=4)], max_iterations=1
        )

        assert kinds(made) == ["AskRoot", "RunCell", "Extract"]
        assert "print(4)" in made[2].fields["repl_history"]
        assert run.outputs == {"answer": 4}

    def test_a_turn_cut_off_by_the_time_leaves_no_step(self):
        """The run goes straight to the extraction."""
        late = BudgetExceededError("The time is over.", limit="max_seconds")
        run, made, _ = played([late, dspy.Prediction(answer=4)])

        assert kinds(made) == ["AskRoot", "Extract"]
        assert run.steps == []

    def test_a_turn_that_cannot_be_paid_ends_the_run(self):
        """Any limit but the time is the caller's to see."""
        poor = BudgetExceededError("Too dear.", limit="max_cost")
        with pytest.raises(BudgetExceededError, match="Too dear"):
            played([poor])

    def test_an_error_of_a_request_ends_the_run(self):
        """What nobody in the loop handles reaches the caller as it is."""
        with pytest.raises(ConnectionError, match="gone"):
            played([ConnectionError("gone")])

    def test_done_comes_last(self):
        """A finished generator would raise StopIteration, which no future can carry."""
        todo = steps(Run(SIGNATURE, [], Budget()), lambda *_: None)
        assert isinstance(next(todo), AskRoot)
        assert isinstance(todo.send(action("SUBMIT(4)")), RunCell)
        assert todo.send(Submitted({"answer": 4}, "")) == Done()


def test_both_drivers_do_the_same():
    """The asynchronous driver makes the same requests, and throws in the same errors."""
    results = [unparsed("blah"), action("print(4)"), Completed("4"), dspy.Prediction(answer=4)]
    run, expected, _ = played(results, max_iterations=2)
    other, made, left = Run(SIGNATURE, [], Budget(max_iterations=2)), [], iter(results)

    async def perform(request):
        made.append(request)
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return result

    async def main():
        thread = WorkerThread()
        try:
            await adrive(steps(other, lambda *_: None), perform, thread)
        finally:
            thread.end()

    asyncio.run(main())

    assert kinds(made) == kinds(expected) == ["AskRoot", "AskRoot", "RunCell", "Extract"]
    assert isinstance(made[-1], Extract)
    assert other.outputs == run.outputs
