"""The state of a run as a person sees it: events in, state out, and the words for it."""

from __future__ import annotations

import live_events as live
import pytest

from dspy_rlm.budget.bill import Bill
from dspy_rlm.events import HistoryCompacted, IterationStarted, RequestRetried, RunEnded, StepTaken
from dspy_rlm.live import words
from dspy_rlm.live.part_times import ROOT, SANDBOX, SUB_LMS, TOOLS, WAITING, PartTimes
from dspy_rlm.live.state import (
    MAX_CALL_SITES,
    MAX_CODE_CHARS,
    MAX_OUTPUT_CHARS,
    MAX_SUB_RUNS,
    MAX_WHOLE_STEPS,
    failing_line,
    state_of_report,
)
from dspy_rlm.reports.report import Call, RunReport, Step


class TestPartTimes:
    def test_the_parts_add_up_to_the_time(self):
        """Each moment belongs to one part, so nothing is counted twice and nothing is lost."""
        times = PartTimes(0.0)
        times.rest_in(ROOT, 1.0)
        times.begin(WAITING, 2.0)
        times.begin(ROOT, 4.0)
        times.end(WAITING, 4.0)
        times.end(ROOT, 7.0)
        times.rest_in(SANDBOX, 7.0)
        times.begin(TOOLS, 8.0)
        times.end(TOOLS, 10.0)
        times.stop(11.0)

        seconds = times.seconds(50.0)

        assert seconds == {ROOT: 4.0, SANDBOX: 3.0, SUB_LMS: 0.0, TOOLS: 2.0, WAITING: 2.0}
        assert sum(seconds.values()) == 11.0

    def test_a_call_that_answers_counts_before_one_that_waits(self):
        """While one sub-LM of a batch answers, the others that wait for a limit are not waited for."""
        times = PartTimes(0.0)
        for _ in range(3):
            times.begin(WAITING, 0.0)
        times.begin(SUB_LMS, 1.0)

        assert times.current == SUB_LMS
        times.end(SUB_LMS, 3.0)
        assert times.seconds(4.0)[SUB_LMS] == 2.0
        assert times.seconds(4.0)[WAITING] == 2.0

    def test_an_end_without_a_beginning_is_no_error(self):
        """An interrupt may come between the two, so the count never falls below nothing."""
        times = PartTimes(0.0)
        times.end(TOOLS, 1.0)
        times.begin(TOOLS, 1.0)

        assert times.current == TOOLS


class TestSteps:
    def test_a_turn_from_start_to_end(self):
        """A turn begins with a request of the root LM, then its code runs, then there is an output."""
        run = live.view()
        run.take(live.started(), 100.0)
        run.take(IterationStarted(1, 20), 100.0)
        assert words.phase(run) == "asking the root LM"
        live.running(run, "print(1)", now=102.0, number=2)
        assert words.phase(run) == "running code"
        run.take(StepTaken(2, Step("Look.", "print(1)", "1"), 0), 103.0)

        assert [step.number for step in run.steps] == [1, 2]
        assert run.steps[1].output == "1"
        assert words.figures(run.steps[1], 500.0) == "1.0 s"
        assert words.figures(run.steps[0], 500.0) == "2.0 s"

    @pytest.mark.parametrize(
        ("output", "note", "failed"),
        [
            ("1", "", False),
            ("about: Traceback (most recent call last)", "", False),
            ('x\nTraceback (most recent call last):\n  File "<cell 1>", line 3', "", True),
            ("[Error] No code was run.", "[Error] No code was run.", True),
        ],
    )
    def test_a_step_has_failed_by_its_end(self, output, note, failed):
        """A traceback or a note of the harness marks a step, not a text about one."""
        run = live.running(live.view(), "f()")
        run.take(StepTaken(1, Step("", "f()", output, note), 0), 101.0)

        assert run.steps[0].failed is failed

    def test_the_failing_line_is_that_of_the_own_cell(self):
        """A traceback may go through functions of earlier cells: the last line of this one is marked."""
        frames = '  File "<cell 2>", line 7, in <module>\n  File "<cell 1>", line 3, in f\nError'

        assert failing_line(f"Traceback (most recent call last):\n{frames}") == 7
        assert failing_line("Traceback (most recent call last):\nError") == 0
        assert (
            failing_line('Traceback (most recent call last):\n  File "<cell 1>", line \u0663') == 0
        )
        assert failing_line("") == 0

    def test_texts_of_any_size_are_kept_short(self):
        """An output of 20 MB leaves a few thousand characters in the state, and the number of all."""
        run = live.running(live.view(), "x" * 1_000_000)
        run.take(StepTaken(1, Step("", "x", "y" * 20_000_000), 0), 101.0)
        step = run.steps[0]

        assert len(step.code) == MAX_CODE_CHARS
        assert len(step.output) < MAX_OUTPUT_CHARS + 100
        assert "(19,992,000 characters)" in step.output
        assert step.output_chars == 20_000_000

    def test_many_steps_keep_no_texts(self):
        """Of a run of a thousand turns, the first one and the latest are whole; the others are lines."""
        run = live.view()
        for number in range(1, 1_001):
            for event in live.turn(number, "print(1)", "1"):
                run.take(event, 100.0 + number)

        assert len(run.steps) == 1_000
        assert sum(bool(step.code) for step in run.steps) == MAX_WHOLE_STEPS
        assert run.steps[0].code

    def test_what_is_worth_a_line(self):
        """A request that is sent again and a history that is shortened are said in the running step."""
        run = live.view()
        run.take(IterationStarted(1, 20), 100.0)
        run.take(RequestRetried(1, "LMRateLimitError:\n slow down", 2.0), 100.0)
        assert run.steps[0].note == "sent again in 2 s: LMRateLimitError: slow down"
        run.take(HistoryCompacted(1, 3, 100, 50), 100.0)
        assert run.steps[0].note == "3 older steps shortened in the prompt"


class TestCalls:
    def test_a_batch_has_its_progress(self):
        """A batch has a line of its own: calls that have ended, and those that have failed."""
        run = live.running(live.view(), "sub_llm_batched(prompts)")
        site = run.call("sub_llm_batched", 40, 1, 100.0, is_tool=False)
        run.progress(site, 12, 38)
        assert site is not None
        site.failed = 2

        assert words.site_text(site, 104.0) == "12 of 38, 2 failed, 4.0 s"
        assert words.phase(run) == "running code, sub_llm_batched"
        run.returned(site, "", 105.0)
        assert words.site_text(site, 900.0) == "12 of 38, 2 failed, 5.0 s"

    def test_single_calls_of_a_loop_are_one_line(self):
        """Four hundred calls from one line of the code are added up."""
        run = live.running(live.view(), "for x in xs: sub_llm(x)")
        for number in range(400):
            site = run.call("sub_llm", 1, 1, 100.0, is_tool=False)
            run.returned(site, "LMServerError: no" if number == 7 else "", 100.5)

        (only,) = run.steps[0].sites
        assert words.site_text(only, 101.0) == "400 calls, 1 failed, 0.5 s"
        assert only.error == "LMServerError: no"

    def test_the_line_that_runs_is_that_of_the_last_call(self):
        """A call whose line is not known leaves the last one that is."""
        run = live.running(live.view(), "sub_llm(1)\nsub_llm(2)\n# sub_llm_batched(3)")
        run.call("sub_llm", 1, 2, 100.0, is_tool=False)
        run.call("sub_llm", 1, 0, 100.0, is_tool=False)

        assert run.steps[0].line == 2

    def test_a_line_that_the_sandbox_does_not_know(self):
        """A call of a task has the line of the only place in the code that it can come from."""
        code = (
            "x = 1\nrs = await asyncio.gather(*[sub_llm.aio(p) for p in ps])\nsub_llm_batched(ps)"
        )
        run = live.running(live.view(), code)

        site = run.call("sub_llm", 1, 0, 100.0, is_tool=False)
        assert site is not None
        assert (site.line, run.steps[0].line) == (2, 2)

    def test_too_many_places_are_counted_only(self):
        """Generated code may call functions from a thousand lines."""
        run = live.running(live.view(), "...")
        for line in range(1, 1_001):
            run.call("sub_llm", 1, line, 100.0, is_tool=False)

        assert len(run.steps[0].sites) == MAX_CALL_SITES
        assert run.steps[0].other_calls == 1_000 - MAX_CALL_SITES

    def test_sub_runs_are_folded(self):
        """A sub-run that is over is a number; its texts are dropped."""
        run = live.running(live.view(), "sub_rlm_batched(...)")
        step = run.steps[0]
        for number in range(2, 300):
            child = live.view(number, 1)
            run.add_sub_run(child)
            live.running(child, "print('long')")
            child.take(RunEnded(live.report("failed" if number == 5 else "submitted")), 101.0)
            run.sub_run_ended(child)
        run.add_sub_run(live.view(300, 1))

        assert len(step.sub_runs) == MAX_SUB_RUNS
        assert not any(one.code for child in step.sub_runs for one in child.steps)
        assert words.sub_runs_text(step) == "299 sub-runs: 1 running, 297 done, 1 failed"


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.04, "0.0 s"),
            (9.96, "10.0 s"),
            (12.7, "12 s"),
            (200, "3 min 20 s"),
            (3_725, "1 h 02 min"),
        ],
    )
    def test_durations(self, seconds, text):
        """Short times have a tenth, long ones minutes and hours."""
        assert words.duration(seconds) == text

    def test_the_cost_and_the_worst_case(self):
        """The cost so far stands beside its limit, or beside the most that it can become; at the end alone."""
        run = live.view(max_cost=0.5)
        run.totals.add(Call("sub_llm", "m", 0, input_tokens=10, output_tokens=5, cost=0.01))
        assert words.cost_text(run) == "$0.010 of $0.50"

        free = live.view()
        free.totals.add(Call("action", "m", 0, input_tokens=10, output_tokens=5, cost=0.01))
        assert words.cost_text(free) == "$0.010"
        free.bill = Bill(23, 50, None, 3.1)
        assert words.cost_text(free) == "$0.010, at most $3.10"
        assert words.cost_text(live.ended(free)) == "$0.010"

    def test_a_cost_that_is_not_known_is_said(self):
        """A call without a price makes the sum a lower bound, or unknown; a failed one does not."""
        run = live.view()
        run.totals.add(Call("sub_llm", "m", 0, error="LMServerError"))
        assert words.cost_text(run) == "$0.00"
        run.totals.add(Call("sub_llm", "m", 0, input_tokens=10, output_tokens=5))
        assert words.cost_text(run) == "unknown"
        run.totals.add(Call("sub_llm", "m", 0, input_tokens=1, output_tokens=1, cost=0.02))
        assert words.cost_text(run) == "at least $0.020"

    def test_the_gauges(self):
        """Each limit has a share; time and tokens without a limit have none."""
        run = live.running(live.view(max_iterations=4, max_llm_calls=0), "print(1)")
        gauges = {gauge.name: gauge for gauge in words.gauges(run, 112.0)}

        assert gauges["turns"].text == "1 of 4"
        assert gauges["turns"].share == 0.25
        assert gauges["sub-LM calls"].share == 1.0
        assert gauges["time"].text == "12 s"
        assert gauges["time"].share is None

    def test_a_stopped_run_says_what_it_does(self):
        """After the first Ctrl-C, the view says that the root LM is asked for what it has."""
        run = live.running(live.view(), "print(1)")
        run.stopping = 10.0

        assert words.phase(run).startswith("stopping: asking for what it has, for up to 10 s")

    def test_the_state_of_a_report(self):
        """A run that is over has a state without its events, for the prediction."""
        steps = (Step("Why", "f()", "Traceback (most recent call last)"), Step("", "SUBMIT()", ""))
        report = RunReport("submitted", "SUBMIT", steps, 3, 4.0, cost=0.5)
        run = state_of_report(report, {"answer": "x"})

        assert [step.failed for step in run.steps] == [True, False]
        assert words.phase(run).startswith("Submitted, 2 iterations, 3 sub-LM calls")
        assert run.outputs == {"answer": "x"}
