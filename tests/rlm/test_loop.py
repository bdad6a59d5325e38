"""The loop of a run, driven by a list of results: no model, no HTTP, no sandbox."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspy_rlm.budget.budget import Budget
from dspy_rlm.errors import BudgetExceededError, PriceUnknownError
from dspy_rlm.events import ActionChosen
from dspy_rlm.runs.loop import AskRoot, Done, Extract, RunCell, adrive, drive, steps
from dspy_rlm.runs.run import Run
from sandbox_runtime import Completed, Failed, Submitted
from sandbox_runtime.threads import DaemonPool

SIGNATURE = dspy.Signature("question -> answer: int")


def action(code, reasoning="Because."):
    """Builds a reply of the root LM."""
    return dspy.Prediction(reasoning=reasoning, code=code)


def unparsed(text):
    """Builds the error for a reply that DSPy's adapter could not parse."""
    return AdapterParseError("ChatAdapter", SIGNATURE, text)


def play_results(results, **budget):
    """Drives a run with the results; returns the run, its requests, and the added steps."""
    run, requests, added = Run(SIGNATURE, [], Budget(**budget)), [], []
    drive(steps(run, lambda *entry: added.append(entry)), performing(requests, results))
    return run, requests, added


def performing(answered, results):
    """Returns a function that records requests, and returns or raises the results in order."""
    left = iter(results)

    def perform(request):
        answered.append(request)
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return result

    return perform


def kinds(answered):
    """Returns the class names of the requests."""
    return [type(request).__name__ for request in answered]


class TestSteps:
    def test_a_turn_asks_and_then_runs_the_cell(self):
        """The code of a reply goes to the sandbox, and a right submission ends the run."""
        run, requests, _ = play_results([action("SUBMIT(4)"), Submitted({"answer": 4}, "")])

        assert kinds(requests) == ["AskRoot", "RunCell"]
        assert requests[1] == RunCell("SUBMIT(4)")
        assert run.outputs == {"answer": 4}

    def test_a_failed_cell_is_an_observation(self):
        """The next prompt shows the error, and the run continues."""
        _, requests, _ = play_results(
            [
                action("1 / 0"),
                Failed("ZeroDivisionError", "division by zero", traceback="Traceback: 1 / 0"),
                action("SUBMIT(4)"),
                Submitted({"answer": 4}, ""),
            ]
        )

        assert kinds(requests) == ["AskRoot", "RunCell", "AskRoot", "RunCell"]
        assert "1 / 0" in requests[2].fields["repl_history"]

    def test_a_reply_without_code_runs_no_cell(self):
        """The LM is called again, and the bad reply is a step."""
        run, requests, _ = play_results(
            [action(""), action("SUBMIT(4)"), Submitted({"answer": 4}, "")]
        )

        assert kinds(requests) == ["AskRoot", "AskRoot", "RunCell"]
        assert run.steps[0].output.startswith("[Error]")

    def test_an_unreadable_reply_is_added_to_the_trace(self):
        """DSPy adds no entry for it, so the loop's caller does."""
        _, requests, added = play_results(
            [unparsed("blah"), action("SUBMIT(4)"), Submitted({"answer": 4}, "")]
        )

        assert kinds(requests) == ["AskRoot", "AskRoot", "RunCell"]
        assert [fields for fields, _ in added] == [requests[0].fields]

    def test_the_last_turn_is_followed_by_the_extraction(self):
        """The outputs are extracted from the whole history once the turns are used up."""
        run, requests, _ = play_results(
            [action("print(4)"), Completed("4"), dspy.Prediction(answer=4)], max_iterations=1
        )

        assert kinds(requests) == ["AskRoot", "RunCell", "Extract"]
        assert "print(4)" in requests[2].fields["repl_history"]
        assert run.outputs == {"answer": 4}

    def test_a_turn_cut_off_by_the_time_leaves_no_step(self):
        """The run goes straight to the extraction."""
        late = BudgetExceededError("The time is over.", limit="max_seconds")
        run, requests, _ = play_results([late, dspy.Prediction(answer=4)])

        assert kinds(requests) == ["AskRoot", "Extract"]
        assert run.steps == []

    def test_a_turn_that_cannot_be_paid_ends_the_run(self):
        """Exceeding any limit except the time is raised to the caller."""
        poor = BudgetExceededError("Too dear.", limit="max_cost")
        with pytest.raises(BudgetExceededError, match="Too dear"):
            play_results([poor])

    def test_a_price_that_is_not_known_ends_the_run(self):
        """A price that stays unknown after the LM has answered ends the run."""
        unknown = PriceUnknownError("Nobody knows.", limit="max_cost")
        with pytest.raises(PriceUnknownError, match="Nobody knows"):
            play_results([action("print(1)"), Completed("1"), unknown])

    @pytest.mark.parametrize("limit", ["max_tokens", "max_cost"])
    def test_what_was_found_is_extracted_when_a_turn_cannot_be_paid(self, limit):
        """The turn that did not fit leaves no step, and no entry in the trace."""
        poor = BudgetExceededError("Too dear.", limit=limit)
        results = [action("print(4)"), Completed("4"), poor, dspy.Prediction(answer=4)]
        run, requests, added = play_results(results)

        assert kinds(requests) == ["AskRoot", "RunCell", "AskRoot", "Extract"]
        assert [step.code for step in run.steps] == ["print(4)"]
        assert [step for _, step in added if step is not None] == []
        assert run.prediction().run.stopped_by == limit

    def test_an_extraction_that_is_too_long_is_asked_for_again_with_less(self):
        """Long outputs are shortened step by step; after that the error is raised to the caller."""
        poor = [BudgetExceededError("Too long.", limit="max_tokens") for _ in range(4)]
        start = [action("print()"), Completed("x" * 9000)]
        run, requests, _ = play_results(
            [*start, *poor[:3], dspy.Prediction(answer=4)], max_iterations=1
        )
        lengths = [len(request.fields["repl_history"]) for request in requests[2:]]

        assert kinds(requests) == ["AskRoot", "RunCell", *["Extract"] * 4]
        assert lengths == sorted(lengths, reverse=True)
        assert len(set(lengths)) == 4
        assert run.outputs == {"answer": 4}
        with pytest.raises(BudgetExceededError) as caught:
            play_results([*start, *poor], max_iterations=1)
        assert caught.value is poor[-1]

    def test_a_final_answer_in_prose_is_run(self):
        """A reply that consists of FINAL(...) alone is run as that call."""
        _, requests, added = play_results([unparsed("FINAL(4)"), Submitted({"answer": 4}, "")])

        assert kinds(requests) == ["AskRoot", "RunCell"]
        assert "4" in requests[1].code
        assert len(added) == 1

    def test_turns_in_a_row_that_fail_end_the_run(self):
        """Consecutive failed turns end the run; a successful turn resets the count."""
        failed = [action("1 / 0"), Failed("ZeroDivisionError", "division by zero")]
        fine = [action("x = 1"), Completed("")]
        results = [*failed, *fine, *failed, action(""), dspy.Prediction(answer=4)]
        run, requests, _ = play_results(results, max_errors=2)

        assert kinds(requests)[-2:] == ["AskRoot", "Extract"]
        assert len(run.steps) == 4
        assert run.prediction().run.stopped_by == "max_errors"

    def test_refused_submissions_count_as_failed_turns(self):
        """An LM that repeats a submission that does not fit is stopped by `max_errors` too."""
        refused = [action("SUBMIT('x')"), Submitted({"answer": "x"}, "")]
        run, requests, _ = play_results(
            [*refused, *refused, dspy.Prediction(answer=4)], max_errors=2
        )

        assert kinds(requests)[-1] == "Extract"
        assert run.prediction().run.stopped_by == "max_errors"

    def test_a_wrong_submission_is_an_observation(self):
        """The LM gets the validation error, and may correct its outputs."""
        run, requests, _ = play_results(
            [
                action("SUBMIT('x')"),
                Submitted({"answer": "x"}, ""),
                action("SUBMIT(4)"),
                Submitted({"answer": 4}, ""),
            ]
        )

        assert "answer: expected int" in requests[2].fields["repl_history"]
        assert run.outputs == {"answer": 4}

    def test_whoever_watches_hears_of_everything_in_order(self):
        """Observers receive start, iterations, actions and steps in order; the end comes with the prediction."""
        seen = []
        run = Run(SIGNATURE, [], Budget(), [seen.append])
        drive(
            steps(run, lambda *_: None),
            performing([], [action(""), action("SUBMIT(4)"), Submitted({"answer": 4}, "")]),
        )
        assert run.running
        run.prediction()

        assert [type(event).__name__ for event in seen] == [
            "RunStarted",
            *["IterationStarted", "ActionChosen", "StepTaken"] * 2,
            "RunEnded",
        ]
        assert [event.runs for event in seen if isinstance(event, ActionChosen)] == [False, True]
        assert not run.running

    def test_an_error_of_a_request_ends_the_run(self):
        """An error that the loop does not handle reaches the caller unchanged."""
        with pytest.raises(ConnectionError, match="gone"):
            play_results([ConnectionError("gone")])

    def test_a_stop_iteration_of_a_request_is_an_error_like_others(self):
        """A StopIteration is raised unchanged; thrown into a generator it would become an opaque RuntimeError."""
        with pytest.raises(StopIteration):
            play_results([])

    def test_done_comes_last(self):
        """A finished generator would raise StopIteration, which no future can carry."""
        todo = steps(Run(SIGNATURE, [], Budget()), lambda *_: None)
        assert isinstance(next(todo), AskRoot)
        assert isinstance(todo.send(action("SUBMIT(4)")), RunCell)
        assert todo.send(Submitted({"answer": 4}, "")) == Done()


def test_both_drivers_do_the_same():
    """The asynchronous driver makes the same requests, and throws in the same errors."""
    results = [unparsed("blah"), action("print(4)"), Completed("4"), dspy.Prediction(answer=4)]
    run, expected, _ = play_results(results, max_iterations=2)
    other, requests = Run(SIGNATURE, [], Budget(max_iterations=2)), []
    next_result = performing(requests, results)

    async def perform(request):
        return next_result(request)

    async def main():
        thread = DaemonPool(1, "rlm-sandbox", idle_seconds=None)
        try:
            await adrive(steps(other, lambda *_: None), perform, thread)
        finally:
            thread.close()

    asyncio.run(main())

    assert kinds(requests) == kinds(expected) == ["AskRoot", "AskRoot", "RunCell", "Extract"]
    assert isinstance(requests[-1], Extract)
    assert other.outputs == run.outputs
