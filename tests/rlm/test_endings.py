"""Ends of runs: each row of the table in `docs/endings.md`, and what `rlm.run` returns."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import AdapterParseError, LMServerError

from dspy_rlm import (
    RLM,
    InputError,
    Quote,
    RunExhaustedError,
    RunFailedError,
    SandboxInterpreter,
    SignatureError,
)
from dspy_rlm.budget.budget import Budget
from dspy_rlm.errors import BudgetExceededError, NoTurnLeftError, RunInterruptedError
from dspy_rlm.reports.report import RunReport
from dspy_rlm.runs.endings.ending import EndingPolicy
from dspy_rlm.runs.endings.repetition import ENDED_AFTER, TOLD_AFTER, Failures
from dspy_rlm.runs.loop import AskRoot, Extract, ReadOutputs, RunCell, drive, steps
from dspy_rlm.runs.run import Run
from dspy_rlm.testing import Fault, PolicyServer
from sandbox_runtime import Completed, Failed, Submitted

DOCS = Path(__file__).parents[2] / "docs" / "endings.md"

PAIR = dspy.Signature("question -> answer: str, lines: list[int]")

# Stands for the signal in a list of results.
SIGNAL = object()


def action(code: str) -> dspy.Prediction:
    """Builds a reply of the root LM."""
    return dspy.Prediction(reasoning="", code=code)


def unparsed() -> AdapterParseError:
    """Builds the error of a reply that could not be read."""
    return AdapterParseError("ChatAdapter", PAIR, "blah")


def started(on_exhausted: str = "extract", **budget: Any) -> Run:
    """Returns a run that reads variables of the REPL."""
    policy = EndingPolicy(on_exhausted, reads_variables=True)  # type: ignore[arg-type]
    return Run(PAIR, [], Budget(**budget), ending=policy)


def play(run: Run, *results: Any) -> list[Any]:
    """Drives the run with these results; returns its requests. A signal comes before the next result."""
    requests: list[Any] = []
    left = iter(results)

    def perform(request: Any) -> Any:
        requests.append(request)
        result = next(left)
        if result is SIGNAL:
            run.ending.stop.requested = True
            result = next(left)
        if isinstance(result, BaseException):
            raise result
        return result

    drive(steps(run, lambda *_: None), perform)
    return requests


def ended(run: Run, *results: Any) -> RunReport:
    """Returns the report of a run that ends with a prediction."""
    play(run, *results)
    return run.prediction().run


def failed(run: Run, error: type[BaseException], *results: Any) -> RunReport:
    """Returns the report of a run that ends with an exception."""
    with pytest.raises(error) as caught:
        play(run, *results)
    return run.fail(caught.value)


TURN = (action("answer = 'found'"), Completed(""))
SUBMITTED = (action("SUBMIT('x', [1])"), Submitted({"answer": "x", "lines": [1]}))
EXTRACTED = dspy.Prediction(answer="x", lines=[1])
STOPPED = RunInterruptedError("The user has stopped the run.")
HELD = {"answer": "found"}

# The first two columns of the table, each with a run that ends so.
ROWS: dict[tuple[str, str], Any] = {
    ("submitted", "SUBMIT"): lambda: ended(started(), *SUBMITTED),
    ("submitted", "interrupted"): lambda: ended(started(), *TURN, SIGNAL, STOPPED, *SUBMITTED),
    ("extracted", "max_iterations"): lambda: ended(started(max_iterations=1), *TURN, EXTRACTED),
    ("extracted", "max_errors"): lambda: ended(
        started(), *[action("1/0"), Failed("ZeroDivisionError", "")] * ENDED_AFTER, EXTRACTED
    ),
    ("extracted", "interrupted"): lambda: ended(
        started(), *TURN, SIGNAL, STOPPED, *TURN, HELD, EXTRACTED
    ),
    ("partial", "max_iterations"): lambda: ended(started("partial", max_iterations=1), *TURN, HELD),
    ("partial", "interrupted"): lambda: ended(
        started(), *TURN, SIGNAL, STOPPED, *TURN, HELD, STOPPED
    ),
    ("failed", "max_iterations"): lambda: failed(
        started("raise", max_iterations=1), NoTurnLeftError, *TURN, HELD
    ),
    ("failed", "LMServerError"): lambda: failed(
        started(), LMServerError, *TURN, LMServerError("down"), HELD
    ),
    ("failed", "AdapterParseError"): lambda: failed(
        started(max_iterations=1), AdapterParseError, *TURN, *[unparsed() for _ in range(3)], HELD
    ),
    ("failed", "KeyboardInterrupt"): lambda: failed(
        started(), KeyboardInterrupt, *TURN, KeyboardInterrupt()
    ),
    ("failed", "SystemExit"): lambda: failed(started(), SystemExit, *TURN, SystemExit(143)),
    ("failed", "CancelledError"): lambda: failed(
        started(), asyncio.CancelledError, *TURN, asyncio.CancelledError()
    ),
}


class TestTable:
    @pytest.mark.parametrize("row", ROWS, ids=" ".join)
    def test_a_run_ends_as_its_row_says(self, row):
        """Each row of the table: the status, the reason, and which outputs are there."""
        report = ROWS[row]()

        assert (report.status, report.stopped_by) == row
        assert report.iterations >= 1 or row[1] == "SUBMIT"
        kept = "answer" in report.partial_outputs
        assert kept == (
            report.status in ("partial", "failed")
            and row[1] not in ("KeyboardInterrupt", "SystemExit", "CancelledError")
        )
        assert set(report.missing) == {
            "partial": {"lines"},
            "failed": {"lines"} if kept else {"answer", "lines"},
        }.get(report.status, set())

    def test_the_page_has_the_same_rows(self):
        """The table of the page has no row without a test, and misses none that is tested."""
        lines = re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCS.read_text("utf-8"), re.MULTILINE)
        listed = [
            {(status, reason) for reason in re.findall(r"`(\w+)`", cell)} for status, cell in lines
        ]

        assert len(listed) >= 8
        assert all(rows & set(ROWS) for rows in listed)
        assert set(ROWS) <= set().union(*listed)


class TestPartial:
    def test_no_extraction_is_paid(self):
        """The variables are read, and no LM is called."""
        run = started("partial", max_iterations=1)
        requests = play(run, *TURN, {"answer": "found", "lines": "no list"})
        prediction = run.prediction()

        assert [type(one) for one in requests[2:]] == [ReadOutputs]
        assert (prediction.answer, prediction.lines) == ("found", None)
        assert prediction.run.missing == ("lines",)
        assert prediction.run.partial_outputs == {"answer": "found"}
        assert "turns were used up" in prediction.final_reasoning

    def test_what_was_submitted_takes_precedence(self):
        """A value that a refused SUBMIT had is the LM's answer; a variable may be an intermediate value."""
        run = started("partial", max_iterations=3)
        play(
            run,
            action("SUBMIT('meant', 'x')"),
            Submitted({"answer": "meant", "lines": "x"}),
            *TURN,
            *TURN,
            {"answer": "found", "lines": [1]},
        )

        assert run.outputs == {"answer": "meant", "lines": [1]}
        assert run.prediction().run.missing == ()

    def test_a_sandbox_that_cannot_be_read_holds_nothing(self):
        """The prediction is there nevertheless, with all outputs missing."""
        run = started("partial", max_iterations=1)
        play(run, *TURN, ConnectionError("gone"))

        assert run.outputs == {"answer": None, "lines": None}
        assert run.prediction().run.missing == ("answer", "lines")

    @pytest.mark.parametrize("limit", ["max_tokens", "max_cost", "max_seconds"])
    def test_any_limit_ends_a_run_so(self, limit):
        """A turn that does not fit into the budget is followed by the variables."""
        run = started("partial")
        play(run, *TURN, BudgetExceededError("too dear", limit=limit), HELD)

        assert (run.prediction().run.status, run.prediction().run.stopped_by) == ("partial", limit)

    def test_a_failing_extraction_keeps_what_was_found(self):
        """An output that fitted in one of its replies, in a refused SUBMIT and in a variable is in the report."""
        run = started(max_iterations=1)
        with pytest.raises(LMServerError):
            play(run, *TURN, dspy.Prediction(lines=[2]), LMServerError("down"), HELD)
        report = run.fail(LMServerError("down"))

        assert report.partial_outputs == {"answer": "found", "lines": [2]}
        assert report.missing == ()


class TestSignals:
    def test_the_last_prompt_says_why(self):
        """The turn after a signal is the last, and its prompt asks for what there is."""
        requests = play(started(), *TURN, SIGNAL, STOPPED, *SUBMITTED)

        assert "this is the last turn" in requests[3].fields["iteration"]
        assert "SUBMIT now what you have found" in requests[3].fields["iteration"]

    def test_a_cell_that_a_signal_stops_is_a_step(self):
        """Its result is shown in the last prompt, also if it took the sandbox with it."""
        run = started()
        requests = play(run, action("slow()"), SIGNAL, RuntimeError("closed"), *SUBMITTED)

        assert "RuntimeError: closed" in requests[2].fields["repl_history"]
        assert run.outputs == {"answer": "x", "lines": [1]}

    def test_a_refused_submit_in_the_last_turn_keeps_what_fits(self):
        """Only the rest is extracted."""
        run = started()
        refused = action("SUBMIT('x', 'y')"), Submitted({"answer": "x", "lines": "y"})
        requests = play(run, *TURN, SIGNAL, STOPPED, *refused, {}, dspy.Prediction(lines=[3]))

        assert [type(one) for one in requests[-2:]] == [ReadOutputs, Extract]
        assert run.outputs == {"answer": "x", "lines": [3]}
        assert "One more turn" not in run.steps[-1].output

    def test_nothing_to_return_is_raised(self):
        """A run without any output ends as Ctrl-C does."""
        report = failed(
            started(), KeyboardInterrupt, *TURN, SIGNAL, STOPPED, *TURN, {}, LMServerError("down")
        )

        assert report.iterations == 2

    def test_raise_raises_after_a_signal(self):
        """With `on_exhausted="raise"` only a SUBMIT is an answer."""
        report = failed(started("raise"), KeyboardInterrupt, *TURN, SIGNAL, STOPPED, *TURN, HELD)

        assert report.partial_outputs == HELD


class TestRepetition:
    def test_the_lm_is_told_before_the_end(self):
        """The third and the fourth failure of the same code say what comes, the fifth is the end."""
        failures = Failures(None)
        remarks = [failures.add("1/0") for _ in range(ENDED_AFTER)]

        assert [bool(remark) for remark in remarks] == [False, False, True, True, False]
        assert "has failed 3 times. If it fails 2 more times, the run ends" in remarks[2]
        assert "has failed 4 times. If it fails once more, the run ends" in remarks[3]
        assert failures.reached

    def test_the_note_is_in_the_prompt(self):
        """The remark is below the output of the cell, as a note of the harness."""
        run = started()
        failing = action("1/0"), Failed("ZeroDivisionError", "division by zero")
        requests = play(run, *failing * TOLD_AFTER, *SUBMITTED)

        assert "[Note] This code has failed 3 times." in requests[-2].fields["repl_history"]

    @pytest.mark.parametrize("other", ["1/0  # again", "\n1 / 0\n", "(1/0)"])
    def test_comments_and_layout_do_not_matter(self, other):
        """The same code is the same attempt."""
        failures = Failures(None)
        for code in ["1/0", other, "1/0", other, "1/0"]:
            failures.add(code)

        assert failures.reached

    def test_text_that_is_no_python_counts_too(self):
        """A syntax error, and a reply without code, can be repeated as well."""
        failures = Failures(None)
        for _ in range(ENDED_AFTER):
            failures.add("I cannot do this.")

        assert failures.reached

    def test_different_failures_go_on(self):
        """Code that changes is another attempt."""
        failures = Failures(None)
        for number in range(50):
            failures.add(f"{number}/0")

        assert not failures.reached

    def test_two_that_alternate_are_a_repetition(self):
        """Going back and forth between two failing pieces of code does not help either."""
        failures = Failures(None)
        for code in ["a", "b"] * 4 + ["a"]:
            failures.add(code)

        assert failures.reached

    def test_a_success_in_between_resets_the_count(self):
        """The state may be another one then."""
        failures = Failures(None)
        for _ in range(3):
            failures.add("1/0")
            failures.add("1/0")
            failures.reset()

        assert not failures.reached
        assert failures.in_a_row == 0

    def test_a_number_replaces_the_rule(self):
        """With `max_errors=7`, seven failures in a row end the run, whether equal or not, without a note."""
        failures = Failures(7)
        remarks = [failures.add("1/0") for _ in range(6)]

        assert not any(remarks)
        assert not failures.reached
        assert failures.would_be_reached("2/0")

    def test_replies_that_differ_are_no_repetition(self):
        """Replies without code are compared by their text."""
        run = started(max_iterations=9)
        replies = [action(f"Thinking about {n}, in words only.") for n in range(9)]
        play(run, *replies, EXTRACTED)

        assert run.prediction().run.stopped_by == "max_iterations"


class TestSandbox:
    """In a real sandbox."""

    def test_variables_are_the_partial_outputs(self, play):
        """A variable whose value fits is an output; one that cannot leave the sandbox, or does not fit, is missing."""
        rlm, server = play(
            "q -> answer: str, n: int, f: str, d: dict[str, int] | None, sum: str, max: int",
            "answer = 'found'\nn = 'many'\nf = lambda: 1\nd = {'a': 1}\nmax = 3\nglobals = SUBMIT = 1",
            max_iterations=1,
            on_exhausted="partial",
        )
        prediction = rlm(q="?")

        assert prediction.toDict()["d"] == {"a": 1}
        assert (prediction.answer, prediction.n, prediction.f) == ("found", None, None)
        assert prediction.run.missing == ("n", "f", "sum", "max")
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("signature", "code", "found"),
        [
            ("q -> answer: str", "print(1)", {"answer": None}),
            ("q -> answer: str", "answer['content'] = 'draft'", {"answer": "draft"}),
            ("q -> answer: str", "answer = 'own'", {"answer": "own"}),
            ("q -> a: int", "answer['content'] = 5", {"a": 5}),
            ("q -> a: int, b: int", "answer['content'] = {'b': 5}\na = 1", {"a": 1, "b": 5}),
        ],
    )
    def test_the_draft_of_the_paper_is_an_output(self, kept, signature, code, found):
        """In the paper's style, `answer["content"]` is the answer so far; the empty one is none."""
        with PolicyServer({"root": lambda _: f"```repl\n{code}\n```"}) as server:
            rlm = RLM(signature, style="paper", max_iterations=1, on_exhausted="partial", pool=kept)
            rlm.set_lm(server.lm("root"))

            assert rlm.run(q="?").outputs == found

    def test_a_recorded_run_reads_its_variables_too(self, play, tmp_path):
        """Reading them is no cell of the journal."""
        path = tmp_path / "run.jsonl"
        rlm, _ = play(
            "q -> a: int", "a = 5", max_iterations=1, on_exhausted="partial", journal=path
        )

        assert rlm(q="?").a == 5
        assert path.read_text("utf-8").count('"e":"cell"') == 1

    def test_another_runs_variables_are_not_read(self):
        """A caller's own interpreter, and a session, keep variables: those of an earlier call are no answer."""
        codes = iter(["a = 5", "print(a)"] * 2)
        with (
            PolicyServer({"root": lambda _: f"```python\n{next(codes)}\n```"}) as server,
            SandboxInterpreter() as interpreter,
        ):
            rlm = RLM("q -> a: int", max_iterations=1, on_exhausted="partial")
            rlm.set_lm(server.lm("root"))
            first, second = (rlm.run(interpreter, q="?").outputs for _ in range(2))
            with rlm.session() as session:
                third, fourth = session(q="?").a, session(q="?").a

        assert (first, second) == ({"a": 5}, {"a": None})
        assert (third, fourth) == (5, None)

    @pytest.mark.parametrize("mode", ["extract", "partial", "raise"])
    def test_the_prompt_says_that_variables_count(self, play, mode):
        """Only where they do; a run that extracts has the plain prompt."""
        rlm, server = play("q -> a: int, b: int", "SUBMIT(1, 2)", on_exhausted=mode)
        rlm(q="?")

        line = (
            "If the run ends before `SUBMIT`, its outputs are variables of their names (`a`, `b`)"
        )
        assert (line in server.requests[0].messages[0].text) == (mode != "extract")

    def test_raise_says_which_limit(self, play):
        """The exception names the limit, and has the report with the outputs that are there."""
        rlm, _ = play("q -> a: str, b: int", "b = 3", max_iterations=1, on_exhausted="raise")

        with pytest.raises(RunExhaustedError, match="turns were used up") as caught:
            rlm(q="?")
        assert isinstance(
            caught.value, AdapterParseError
        )  # which DSPy's optimizers keep the trace of
        assert caught.value.limit == "max_iterations"
        assert caught.value.run.stopped_by == "max_iterations"
        assert caught.value.run.partial_outputs == {"b": 3}

    @pytest.mark.parametrize("form", ["run", "arun"])
    def test_run_returns_what_a_call_returns(self, play, form):
        """An answer is the prediction, with the outputs beside it."""
        rlm, _ = play("q -> a: int", "SUBMIT(len(q))")
        result = rlm.run(q="abc") if form == "run" else asyncio.run(rlm.arun(q="abc"))

        assert (result.ok, result.status, result.stopped_by) == (True, "submitted", "SUBMIT")
        assert result.outputs == {"a": 3}
        assert result.prediction.a == 3
        assert result.error is None

    @pytest.mark.parametrize("form", ["run", "arun"])
    def test_run_returns_what_a_call_raises(self, play, form):
        """A server that is down is a result, with what the REPL holds."""

        def lock_out() -> None:
            server.fail("root", Fault(status=401))

        rlm, server = play("q -> a: int, b: str", "a = 5\nlock_out()", tools=[lock_out])
        result = rlm.run(q="abc") if form == "run" else asyncio.run(rlm.arun(q="abc"))

        assert (result.ok, result.status, result.prediction) == (False, "failed", None)
        assert result.stopped_by == "LMAuthError"
        assert isinstance(result.error, RunFailedError)
        assert result.outputs == {"a": 5, "b": None}
        assert (result.missing, result.run.iterations) == (("b",), 1)

    def test_a_partial_answer_is_not_ok(self, play):
        """`ok` means that every output is there."""
        rlm, _ = play("q -> a: int, b: int", "a = 1", max_iterations=1, on_exhausted="partial")
        result = rlm.run(q="?")

        assert (result.ok, result.error, result.outputs) == (False, None, {"a": 1, "b": None})

    def test_an_interpreter_that_does_not_start_is_a_result(self):
        """Whatever a sandbox does is returned; its report has no steps."""

        class Broken:
            def __init__(self):
                self.tools = {}

            def start(self):
                raise dspy.CodeInterpreterError("no")

            def execute(self, code, variables=None):
                raise dspy.CodeInterpreterError("no")

            def shutdown(self):
                pass

        lm = dspy.LM("openai/none", api_key="none", api_base="http://127.0.0.1:9")
        with dspy.context(lm=lm):
            rlm = RLM("q -> a: int", interpreter_factory=Broken, style="paper")
            result = rlm.run(q="?")

        assert (result.ok, result.status, result.stopped_by) == (
            False,
            "failed",
            "CodeInterpreterError",
        )
        assert (result.outputs, result.run.iterations) == ({"a": None}, 0)

    def test_a_mistake_of_the_program_is_raised(self, play):
        """Wrong inputs are no end of a run."""
        rlm, _ = play("q -> a: int", "SUBMIT(1)")

        with pytest.raises(InputError):
            rlm.run(wrong="?")
        with pytest.raises(InputError):
            asyncio.run(rlm.arun(wrong="?"))


def test_the_examples_of_the_page_run(play, capsys):
    """The examples of `docs/endings.md`, one after the other."""
    rlm, _ = play("text -> answer", "SUBMIT('42')")
    names = {"rlm": rlm, "RLM": RLM, "text": "x"}
    for block in re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(DOCS), "exec"), names)

    assert capsys.readouterr().out == "42\n"
    assert names["rlm"].stop_seconds == 0


@pytest.mark.parametrize(
    "options",
    [
        {"on_exhausted": "stop"},
        {"on_exhausted": None},
        {"stop_seconds": -1},
        {"stop_seconds": True},
    ],
)
def test_a_wrong_setting_is_refused(options):
    """The constructor says what is allowed."""
    with pytest.raises(SignatureError, match=next(iter(options))):
        RLM("a -> b", **options)


def test_variables_are_read_once():
    """A run that fails at its end does not read them again."""
    run, requests = started("raise", max_iterations=1), []
    left = iter([*TURN, HELD])

    def perform(request: Any) -> Any:
        requests.append(type(request))
        return next(left)

    with pytest.raises(NoTurnLeftError):
        drive(steps(run, lambda *_: None), perform)
    assert requests == [AskRoot, RunCell, ReadOutputs]


class TestChecked:
    """The outputs that are there are checked as submitted ones are."""

    def test_a_quote_that_is_in_no_input_is_missing(self, play):
        """Quotes of variables are located, and those that are not verbatim are left out."""
        rlm, _ = play(
            dspy.Signature("doc, q -> a: Quote, b: Quote", custom_types={"Quote": Quote}),
            "a = 'two words'\nb = 'not there'",
            max_iterations=1,
            on_exhausted="partial",
        )
        prediction = rlm(doc="one two words", q="?")
        assert (prediction.a.start, prediction.b) == (4, None)
        assert prediction.run.missing == ("b",)

    def test_an_output_that_a_validator_refuses_is_missing(self, play):
        """A validator sees them once all are there."""

        def is_even(b: int) -> str | None:
            return "b must be even" if b % 2 else None

        rlm, _ = play(
            "q -> a: int, b: int",
            "a, b = 1, 3",
            max_iterations=1,
            on_exhausted="partial",
            validators=[is_even],
        )
        prediction = rlm(q="?")
        assert (prediction.a, prediction.b, prediction.run.missing) == (1, None, ("b",))
        assert prediction.run.partial_outputs == {"a": 1}
