"""The terminal's view of a run, as the exact text."""

from __future__ import annotations

import dataclasses
import io
import logging
import re

import dspy
import pytest

from dspy_rlm.concurrency.batch_progress import batches_reported_to
from dspy_rlm.events import (
    ActionChosen,
    IterationStarted,
    RequestRetried,
    RunEnded,
    RunStarted,
    SoFar,
    StepTaken,
    SubCallProgress,
    SubCallStarted,
)
from dspy_rlm.prompts.variables import Variable
from dspy_rlm.repl.batching import map_concurrently
from dspy_rlm.reports.report import Call, RunReport, Step, Usage
from dspy_rlm.reports.text import summary
from dspy_rlm.terminal.progress import (
    MAX_OUTPUT_LINES,
    Progress,
    print_event,
    printable,
    render_event,
    wants_colour,
)
from dspy_rlm.testing import Fault


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def report(status: str, stopped_by: str, steps: int = 2) -> RunReport:
    step = Step("", "", "")
    return RunReport(status, stopped_by, (step,) * steps, llm_calls=1, seconds=3.14)


class TestRenderEvent:
    def test_a_run_starts_with_its_variables(self):
        """A run starts with its variables: names in a column, then types and sizes."""
        variables = [
            Variable("logs", "str", "1,200 characters", ""),
            Variable("n", "int", "", ""),
        ]

        assert render_event(RunStarted(variables, 20)) == (
            "    logs  str, 1,200 characters\n    n     int"
        )

    def test_an_action_looks_as_at_the_prompt(self):
        """An action shows the reasoning with the number of the step, then the code."""
        action = ActionChosen(3, "Count\nthe lines.", "n = 0\n\nfor line in logs:\n    n += 1")

        assert render_event(action) == (
            "\n[3] Count the lines.\n"
            "    >>> n = 0\n"
            "    ...\n"
            "    ... for line in logs:\n"
            "    ...     n += 1"
        )

    def test_an_output_stands_below_its_code(self):
        """An output is indented like its code, without prompts."""
        assert render_event(StepTaken(3, Step("", "print(1)", "1\n2"), 0)) == "    1\n    2"

    def test_a_step_without_output_says_so(self):
        """A step without output says so."""
        screen = render_event(StepTaken(3, Step("", "x = 1", ""), 0))

        assert screen == "    (no output - did you forget to print?)"

    @pytest.mark.parametrize(
        ("so_far", "expected"),
        [
            (
                SoFar(2, 12_400, 0.0008, 3.14),
                "(2 sub-LM calls, 12,400 tokens, $0.00080, 3.1 s so far)",
            ),
            (SoFar(0, None, None, 3.14), "(3.1 s so far)"),
        ],
    )
    def test_a_step_ends_with_the_running_total(self, so_far, expected):
        """Calls, tokens, dollars and seconds so far stand below the output, as far as they are known."""
        screen = render_event(StepTaken(3, Step("", "print(1)", "1"), 0, so_far))

        assert screen == f"    1\n    {expected}"

    @pytest.mark.parametrize(
        ("seconds", "expected"), [(2.0, "sent again in 2 s"), (0.0, "sent again")]
    )
    def test_a_request_that_is_sent_again(self, seconds, expected):
        """A retry of the root LM is one line: otherwise the terminal says nothing for seconds."""
        event = RequestRetried(2, "LMRateLimitError:\n slow down", seconds)

        assert render_event(event) == f"    turn 2: {expected}. LMRateLimitError: slow down"
        assert render_event(event, label="run 7").startswith("    [run 7] turn 2: ")
        assert (
            max(map(len, render_event(RequestRetried(1, "x" * 500, 1), width=60).split("\n"))) <= 60
        )

    def test_a_reply_without_code_is_a_step_of_its_own(self):
        """An unreadable reply has no code to show before its error."""
        events = [
            ActionChosen(3, "", ""),
            StepTaken(3, Step("", "", "[Error] No code was run."), 0),
        ]
        screen = "\n".join(map(render_event, events))

        assert screen == "\n[3] (no reasoning)\n    (no code)\n    [Error] No code was run."

    def test_long_things_are_cut(self):
        """Many lines and wide lines are shortened, and it shows."""
        output = "\n".join(["x" * 50] * 20)
        lines = render_event(StepTaken(1, Step("", "c", output), 0), width=40).split("\n")

        assert lines[0] == f"    {'x' * 32} ..."
        assert len(lines) == MAX_OUTPUT_LINES
        assert lines[-1] == "    (5 more lines)"

    @pytest.mark.parametrize("event", [IterationStarted(1, 20), SubCallStarted(1, "predict", 1)])
    def test_what_others_show_better_is_not_shown(self, event, capsys):
        """Iterations and sub-calls print nothing of their own: the step and the code show them."""
        print_event(event)

        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        ("status", "stopped_by", "said"),
        [
            ("submitted", "SUBMIT", "Submitted"),
            ("extracted", "max_iterations", "Turns used up, outputs extracted"),
            ("extracted", "max_cost", "Budget used up (max_cost), outputs extracted"),
            ("extracted", "max_seconds", "Time used up (max_seconds), outputs extracted"),
            ("extracted", "max_errors", "Too many failed turns (max_errors), outputs extracted"),
            ("failed", "KeyboardInterrupt", "Interrupted"),
            ("failed", "LMServerError", "Failed (LMServerError)"),
        ],
    )
    def test_a_run_ends_with_what_it_took(self, status, stopped_by, said):
        """The last line has the ending, iterations, sub-LM calls and seconds."""
        screen = render_event(RunEnded(report(status, stopped_by)))

        assert screen == f"\n    {said}, 2 iterations, 1 sub-LM call, 3.1 s"

    def test_a_run_ends_with_its_cost(self):
        """Tokens and dollars are in the last line where they are known, and so are cached and failed calls."""
        calls = [
            Call("sub_llm", "m", 0, cached=at == 0, error="no" if at == 1 else "")
            for at in range(3)
        ]
        usage = (
            Usage("root", 0, calls=1, cached=1, input_tokens=9_000, output_tokens=400, cost=0.0008),
            Usage("m", 0, calls=2, cached=1, input_tokens=3_000, output_tokens=0, cost=0.00003),
        )
        run = dataclasses.replace(
            report("submitted", "SUBMIT"),
            llm_calls=2,
            usage=usage,
            cost=0.00083,
            sub_calls=tuple(calls),
        )

        assert summary(run) == (
            "Submitted, 2 iterations (1 cached), 3 sub-LM calls (1 cached, 1 failed), 12,400 tokens, "
            "$0.00083, 3.1 s"
        )

    def test_unknown_costs_are_left_out(self):
        """A sum with an unknown part would be too small, so it is not shown."""
        usage = (Usage("root", 0, calls=1, input_tokens=None, output_tokens=5, cost=None),)
        run = dataclasses.replace(report("submitted", "SUBMIT"), usage=usage, cost=None)

        assert summary(run) == "Submitted, 2 iterations, 1 sub-LM call, 3.1 s"

    def test_colours_set_code_apart(self):
        """On a terminal the reasoning is bold and the code dim, line by line."""
        screen = render_event(ActionChosen(1, "Go.", "a\nb"), colour=True)

        assert screen == (
            "\n\x1b[1m[1] Go.\x1b[0m\n\x1b[2m    >>> a\x1b[0m\n\x1b[2m    ... b\x1b[0m"
        )

    def test_output_cannot_control_the_terminal(self):
        """Printed text is untrusted: escape sequences and bidi marks are spelled out."""
        screen = render_event(StepTaken(1, Step("", "c", "\x1b[2Jgone\u202e\r!"), 0), colour=True)

        assert screen == "    \\x1b[2Jgone\\u202e\\r!"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestProgress:
    def test_a_batch_is_one_line_while_it_is_quick(self, capsys):
        """The start of a batch is shown at once, and nothing else if it ends soon."""
        progress = Progress()
        for event in (RunStarted([], 20), SubCallStarted(1, "sub_llm_batched", 40)):
            progress(event)
        progress(SubCallProgress(1, "sub_llm_batched", 40, 40, 0.3))
        progress(RunEnded(report("failed", "X")))

        assert "sub_llm_batched" in capsys.readouterr().err.split("Failed")[0]

    def test_a_slow_batch_says_how_many_have_ended(self, capsys):
        """Every few seconds there is a line with n of m, and one at the end."""
        clock = Clock()
        progress = Progress(clock=clock)
        progress(SubCallStarted(1, "predict_batched", 40))
        for done in range(1, 41):
            clock.now = done * 0.5
            progress(SubCallProgress(1, "predict_batched", done, 40, clock.now))

        assert capsys.readouterr().err.splitlines() == [
            "    predict_batched: 40 calls",
            "    predict_batched: 10 of 40, 5 s",
            "    predict_batched: 20 of 40, 10 s",
            "    predict_batched: 30 of 40, 15 s",
            "    predict_batched: 40 of 40, 20 s",
        ]

    def test_single_calls_are_counted_once_they_take_long(self, capsys):
        """A loop of single calls prints a line every few seconds, from the start of its step."""
        clock = Clock()
        progress = Progress(clock=clock)
        progress(ActionChosen(1, "Go.", "x"))
        capsys.readouterr()
        for second in range(1, 13):
            clock.now = float(second)
            progress(SubCallStarted(1, "sub_llm", 1))

        assert capsys.readouterr().err.splitlines() == [
            "    sub_llm: call 5 of this step",
            "    sub_llm: call 10 of this step",
        ]

    def test_a_sub_run_is_indented(self, capsys):
        """The lines of a sub-run are indented by its depth."""
        Progress(1)(StepTaken(1, Step("", "c", "out"), 0))

        assert capsys.readouterr().err == "        out\n"

    def test_several_runs_name_themselves(self, capsys):
        """While several runs go on, each block names its run; a run that is alone has no name."""
        one, other = Progress(), Progress()
        one(RunStarted([], 20))
        other(RunStarted([], 20))
        one(ActionChosen(1, "Go.", "x"))
        other(StepTaken(3, Step("", "c", "out"), 0))
        one(SubCallStarted(1, "predict_batched", 3))
        one(RunEnded(report("failed", "X")))
        other(StepTaken(4, Step("", "c", "alone"), 0))
        other(RunEnded(report("failed", "X")))

        lines = capsys.readouterr().err.splitlines()
        first, second = f"run {one._number}", f"run {other._number}"
        assert f"[{first}, 1] Go." in lines
        assert lines[lines.index("    out") - 1] == f"    [{second}, 3]"
        assert f"    [{first}] predict_batched: 3 calls" in lines
        assert f"    [{first}] Failed (X), 2 iterations, 1 sub-LM call, 3.1 s" in lines
        assert lines[-3:] == ["    alone", "", "    Failed (X), 2 iterations, 1 sub-LM call, 3.1 s"]

    def test_the_outputs_are_shown(self, capsys):
        """The last block has the outputs, each in one line."""
        print_event(RunEnded(report("submitted", "SUBMIT"), {"answer": "yes\nno", "lines": [1, 2]}))

        assert capsys.readouterr().err == (
            "\n    answer = 'yes\\nno'\n    lines = [1, 2]\n"
            "    Submitted, 2 iterations, 1 sub-LM call, 3.1 s\n"
        )


def test_batches_report_each_item_that_has_ended():
    """The listener around a batch hears of every item, in order, also of one that failed."""
    heard: list[tuple[int, int]] = []

    def work(item: int) -> int:
        if item == 3:
            raise ValueError
        return item

    with batches_reported_to(lambda done, count: heard.append((done, count))):
        assert map_concurrently(lambda item: item, [1, 2], 1) == [1, 2]
        with pytest.raises(ValueError):  # noqa: PT011
            map_concurrently(work, [3], 1)
    map_concurrently(work, [1], 1)

    assert heard == [(1, 2), (2, 2), (1, 1)]


def test_retries_of_the_root_are_shown_and_counted(play, capsys, caplog):
    """Each has a line in the verbose output and in the log, without secrets; the report counts them."""
    caplog.set_level(logging.INFO, "dspy_rlm")
    rlm, server = play(
        "q -> a", "print(sub_llm('x'))", "SUBMIT('')", sub=lambda _: "x", verbose=True
    )
    server.fail(
        "root", Fault(status=429, message="slow down, key-0123456789abcdef"), Fault(status=503)
    )
    server.fail("sub", Fault(status=503))
    rlm.sub_lm = server.lm("sub", num_retries=1)
    with dspy.context(lm=server.lm("root", num_retries=3, api_key="key-0123456789abcdef")):
        run = rlm(q="?").run
    text = capsys.readouterr().err

    assert run.retries == run.dump()["retries"] == 2
    assert [bool(call.error) for call in run.sub_calls] == [True, False]
    assert "    turn 1: sent again. LMRateLimitError: [openai/root] slow down, [secret]" in text
    assert "    turn 1: sent again. LMServerError: [openai/root]" in text
    assert "(1 sub-LM call, " in text
    assert "Submitted, 2 iterations (2 retries), " in text
    assert "step 1: the request is sent again in 0 s: LMServerError" in caplog.text
    assert "0123456789" not in text + caplog.text


class TestLogging:
    def test_steps_are_logged(self, play, caplog):
        """The logger `dspy_rlm` has a line for each event at INFO, and the code and the output at DEBUG."""
        caplog.set_level(logging.DEBUG, "dspy_rlm")
        rlm, _ = play(
            "q -> answer",
            "print(sub_llm_batched(['a', 'b']))",
            "SUBMIT('\x1b[2J')",
            sub=lambda _request: "yes",
        )
        rlm(q="?")

        lines = [
            record.getMessage().partition(": ")[2]
            for record in caplog.records
            if record.name == "dspy_rlm" and record.levelno == logging.INFO
        ]
        lines = [re.sub(r"[\d,]+ tokens, [\d.]+ s so", "N tokens, S s so", line) for line in lines]
        assert lines[:-1] == [
            "started with q",
            "step 1: running 1 line of code",
            "step 1: sub_llm_batched, 2 calls",
            "step 1: 14 characters of output, 2 sub-LM calls, N tokens, S s so far",
            "step 2: running 1 line of code",
            "step 2: 14 characters of output, 2 sub-LM calls so far",
        ]
        assert lines[-1].startswith("Submitted, 2 iterations, 2 sub-LM calls")
        assert "print(sub_llm_batched(['a', 'b']))" in caplog.text
        assert "\x1b" not in caplog.text

    def test_nothing_is_logged_by_default(self, play, caplog):
        """Without a level for the logger, a run logs nothing."""
        rlm, _ = play("q -> answer", "SUBMIT('x')")
        rlm(q="?")

        assert [record for record in caplog.records if record.name == "dspy_rlm"] == []


def test_printable_text_stays():
    """Letters of all languages, line breaks and tabs are not spelled out."""
    assert printable("größer → 漢字\n\tx") == "größer → 漢字\n    x"


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch):
    """Colours are never used in a file or pipe, with NO_COLOR, or on a dumb terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())

    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())

    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())


def test_the_last_line_names_lost_turns_and_repairs():
    """The form of replies has a cost too: it is named where there is one."""
    run = dataclasses.replace(
        report("submitted", "SUBMIT", 2),
        turns_lost={"unreadable": 2, "shell": 1},
        repairs={"quotes": 1},
    )

    assert render_event(RunEnded(run, {})).strip() == (
        "Submitted, 2 iterations, 1 sub-LM call, 3.1 s; "
        "3 turns lost (unreadable 2, shell), 1 repair (quotes)"
    )
