"""The state of a run as a person sees it: events in, state out. No I/O, no threads, no clock of its own.

Texts are shortened when they come in, so the state of a run of any length and any output stays small. They are as code
and models wrote them: a renderer escapes them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_rlm.budget.bill import Bill
from dspy_rlm.budget.budget import Budget
from dspy_rlm.events import (
    ActionChosen,
    Event,
    HistoryCompacted,
    IterationStarted,
    RequestRetried,
    RunEnded,
    RunStarted,
    StepTaken,
)
from dspy_rlm.live.part_times import ROOT, SANDBOX, TOOLS, PartTimes
from dspy_rlm.prompts.variables import Variable
from dspy_rlm.reports.report import Call, RunReport
from dspy_rlm.values.previews import short_repr

# The most characters that are kept of a text. A terminal shows a few lines of it; a page has a scroll bar.
MAX_CODE_CHARS, MAX_OUTPUT_CHARS, MAX_REASONING_CHARS = 20_000, 8_000, 2_000
MAX_VALUE_CHARS = 2_000

# The places in the code of one step that call something, and the sub-runs that are kept of a step. More are counted.
MAX_CALL_SITES = 40
MAX_SUB_RUNS = 100

# The steps that keep their texts: the first one and the latest. The others have a line each.
MAX_WHOLE_STEPS = 200


@dataclasses.dataclass
class CallSite:
    """The calls of one function from one place in the code of a step: one batch, or single calls, added up."""

    name: str
    line: int = 0
    """The line of the code; 0 if it is not known."""

    is_batch: bool = False
    is_tool: bool = False
    count: int = 0
    """The calls that have begun; of a batch, its size."""

    done: int = 0
    failed: int = 0
    """The calls, or the LM calls of a batch, that have failed."""

    running: int = 0
    """The calls of the function that have not ended."""

    began: float = 0.0
    ended: float | None = None
    error: str = ""
    """The last error."""

    @property
    def is_over(self) -> bool:
        """True if no call of it runs."""
        return self.running == 0


@dataclasses.dataclass
class StepView:
    """One iteration."""

    number: int
    began: float
    ended: float | None = None
    reasoning: str = ""
    code: str = ""
    code_chars: int = 0
    runs: bool = False
    """True once its code runs, or has run."""

    output: str = ""
    output_chars: int = 0
    failed: bool = False
    sites: list[CallSite] = dataclasses.field(default_factory=list)
    other_calls: int = 0
    """Calls that are in no site, because there are too many."""

    line: int = 0
    """The line of the last call that the code has made; at its end, the line that has failed. 0: none."""

    sub_runs: list[RunView] = dataclasses.field(default_factory=list)
    runs_done: int = 0
    runs_failed: int = 0
    llm_calls: int = 0
    """The LM calls of its code."""

    cost: float = 0.0
    note: str = ""
    """The last thing worth a line, such as a request that is sent again."""


@dataclasses.dataclass
class Totals:
    """What a run has taken with all of its sub-runs."""

    llm_calls: int = 0
    cached: int = 0
    failed: int = 0
    in_flight: int = 0
    tokens: int = 0
    cost: float = 0.0
    unknown_tokens: bool = False
    unknown_cost: bool = False

    def add(self, call: Call) -> None:
        """Adds one request, after its end."""
        if call.cached:
            self.cached += 1
            return
        if call.input_tokens is None or call.output_tokens is None:
            self.unknown_tokens = self.unknown_tokens or not call.error
        self.tokens += (call.input_tokens or 0) + (call.output_tokens or 0)
        if call.cost is None:
            self.unknown_cost = self.unknown_cost or not call.error
        self.cost += call.cost or 0.0


@dataclasses.dataclass
class RunView:
    """One run: its steps, and where it is."""

    number: int
    depth: int
    title: str
    """The fields of its signature."""

    budget: Budget
    began: float
    models: Sequence[str] = ()
    """The LM that writes the code, then those that it can call."""

    ended: float | None = None
    variables: Sequence[Variable] = ()
    steps: list[StepView] = dataclasses.field(default_factory=list)
    phase: str = "opening the sandbox"
    totals: Totals = dataclasses.field(default_factory=Totals)
    times: PartTimes = dataclasses.field(default_factory=lambda: PartTimes(0.0))
    stopping: float = 0.0
    """The seconds that the first Ctrl-C has left to the run; 0: nobody has stopped it."""

    report: RunReport | None = None
    outputs: Mapping[str, str] | None = None
    """The outputs as text; None while there are none."""

    bill: Bill | None = None
    """The most that the run can take; None if it is not known yet, or in a sub-run."""

    error: str = ""
    """The reason for an end without a report: the sandbox did not open."""

    @property
    def step(self) -> StepView | None:
        """The running iteration, else the last one."""
        return self.steps[-1] if self.steps else None

    @property
    def is_over(self) -> bool:
        """True after its end."""
        return self.ended is not None

    @property
    def failed(self) -> bool:
        """True if it ended without outputs."""
        return bool(self.error) or (self.report is not None and self.report.status == "failed")

    def seconds(self, now: float) -> float:
        """Returns the time since it began, or the time that it took."""
        if self.report is not None:
            return self.report.seconds
        return max((now if self.ended is None else self.ended) - self.began, 0.0)

    # ---- Events ----

    def take(self, event: Event, now: float) -> None:
        """Changes the state by an event of the run."""
        match event:
            case RunStarted(variables=variables):
                self.variables = variables
                self.began = now
            case IterationStarted(number=number):
                self._begin_step(number, now)
            case ActionChosen():
                self._choose(event, now)
            case RequestRetried(error=error, seconds=seconds):
                again = f"sent again in {seconds:.0f} s" if seconds >= 1 else "sent again"
                self._note(f"{again}: {' '.join(error[:500].split())}")
            case HistoryCompacted(steps=steps):
                self._note(f"{steps} older step{'' if steps == 1 else 's'} shortened in the prompt")
            case StepTaken():
                self._end_step(event, now)
            case RunEnded(report=report, outputs=outputs):
                self._end(report, outputs, now)
            case _:
                pass

    def _begin_step(self, number: int, now: float) -> None:
        if self.steps and self.steps[-1].ended is None:
            self.steps[-1].ended = now
        self.steps.append(StepView(number, now))
        if len(self.steps) > MAX_WHOLE_STEPS:
            old = self.steps[len(self.steps) - MAX_WHOLE_STEPS]
            old.code = old.output = ""
        self.phase = "asking the root LM"
        self.times.rest_in(ROOT, now)

    def _choose(self, event: ActionChosen, now: float) -> None:
        step = self._at(event.number, now)
        step.reasoning = event.reasoning[:MAX_REASONING_CHARS].strip()
        step.code, step.code_chars = event.code[:MAX_CODE_CHARS], len(event.code)
        step.runs = event.runs
        step.note = ""
        self.phase = "running code" if event.runs else "reading the reply"
        self.times.rest_in(SANDBOX, now)

    def _end_step(self, event: StepTaken, now: float) -> None:
        step, taken = self._at(event.number, now), event.step
        step.ended = now
        if not step.reasoning:
            step.reasoning = taken.reasoning[:MAX_REASONING_CHARS].strip()
        if not step.code:
            step.code, step.code_chars = taken.code[:MAX_CODE_CHARS], len(taken.code)
        step.output, step.output_chars = _shown(taken.output), len(taken.whole)
        step.failed = is_failure(taken.output, taken.note)
        step.line = failing_line(taken.output) if step.failed else 0
        for site in step.sites:
            site.running, site.ended = 0, site.ended or now
        self.phase = "between turns"
        self.times.rest_in(ROOT, now)

    def _end(self, report: RunReport, outputs: Mapping[str, Any] | None, now: float) -> None:
        self.ended, self.report = now, report
        self.phase = "over"
        self.times.stop(now)
        if self.steps and self.steps[-1].ended is None:
            if not self.steps[-1].code and len(self.steps) > report.iterations:
                self.steps.pop()  # its turn had no reply
            else:
                self.steps[-1].ended = now
        self.outputs = None if outputs is None else texts_of(outputs)

    def _at(self, number: int, now: float) -> StepView:
        if not self.steps or self.steps[-1].number != number:
            self._begin_step(number, now)
        return self.steps[-1]

    def _note(self, text: str) -> None:
        if self.steps:
            self.steps[-1].note = text

    # ---- Calls of the code ----

    def call(
        self, name: str, count: int, line: int, now: float, *, is_tool: bool
    ) -> CallSite | None:
        """Begins a call of a function by the running code. None: there are too many places to keep this one."""
        step = self.step
        if step is None:
            return None
        line = line or only_line(step.code, name)
        step.line = line or step.line
        is_batch = count != 1 or name.endswith("_batched")
        site = None if is_batch else self._site(step, name, line)
        if site is None:
            if len(step.sites) >= MAX_CALL_SITES:
                step.other_calls += count
                return None
            site = CallSite(name, line, is_batch=is_batch, is_tool=is_tool, began=now)
            step.sites.append(site)
        site.count += count
        site.running += 1
        site.ended = None
        return site

    def _site(self, step: StepView, name: str, line: int) -> CallSite | None:
        for site in reversed(step.sites):
            if site.name == name and site.line == line and not site.is_batch:
                return site
        return None

    def returned(self, site: CallSite | None, error: str, now: float) -> None:
        """Ends a call of a function; `error` is empty if it has returned."""
        if site is None:
            return
        site.running = max(site.running - 1, 0)
        if not site.is_batch:
            site.done += 1
            site.failed += bool(error)
        site.error = error[:500] or site.error
        if site.is_over:
            site.ended = now

    def progress(self, site: CallSite | None, done: int, count: int) -> None:
        """Notes how far a batch is. Equal prompts are one call, so its size may shrink."""
        if site is not None and site.is_batch:
            site.done, site.count = max(site.done, done), count

    def add_sub_run(self, run: RunView) -> None:
        """Adds a run that the running code has started."""
        step = self.step
        if step is None:
            return
        if len(step.sub_runs) >= MAX_SUB_RUNS:
            over = next((at for at, one in enumerate(step.sub_runs) if one.is_over), None)
            if over is not None:
                del step.sub_runs[over]
        step.sub_runs.append(run)

    def sub_run_ended(self, run: RunView) -> None:
        """Counts a sub-run that has ended, and drops its texts: it is folded."""
        for step in reversed(self.steps):
            if any(one is run for one in step.sub_runs):
                step.runs_done += 1
                step.runs_failed += run.failed
                break
        for part in run.steps:
            part.output = part.code = part.reasoning = ""
            part.sites.clear()

    def booked(self, call: Call) -> None:
        """Adds one request of this run's code to its step."""
        step = self.step
        if step is not None and call.is_sub_call:
            step.cost += call.cost or 0.0

    def called(self) -> None:
        """Adds an LM call of this run's code to its step, after its end."""
        if self.step is not None:
            self.step.llm_calls += 1


def is_failure(output: str, note: str) -> bool:
    """Returns whether a step failed, by the end of its output: a traceback, or a note of an error."""
    tail = output[-4_000:]
    return note.startswith("[Error]") or "\nTraceback (most recent call last)" in f"\n{tail}"


@functools.lru_cache(maxsize=64)
def only_line(code: str, name: str) -> int:
    """Returns the line of the only call of a function in some code; 0 if there is none, or several.

    For calls whose line the sandbox does not know, such as those of `asyncio.gather(*[f.aio(x) for x in xs])`.
    """
    calls = [f"{name}{form}" for form in ("(", ".aio(", ".batched(")]
    lines = [
        at for at, line in enumerate(code.split("\n"), 1) if any(call in line for call in calls)
    ]
    return lines[0] if len(lines) == 1 else 0


def failing_line(output: str) -> int:
    """Returns the line of the cell that its traceback names last; 0 if there is none.

    The first frame is the cell's own; functions that it calls may be of earlier cells.
    """
    trace = output[-4_000:].rpartition("Traceback (most recent call last)")[2]
    number = trace.partition('File "<cell ')[2][:12].partition(">")[0]
    line = trace.rpartition(f'File "<cell {number}>", line ')[2][:8].split(",")[0].split("\n")[0]
    return int(line) if number and line.isascii() and line.isdigit() else 0


def texts_of(outputs: Mapping[str, Any]) -> dict[str, str]:
    """Returns outputs as text."""
    return {
        name: value[:MAX_VALUE_CHARS]
        if isinstance(value, str)
        else short_repr(value, MAX_VALUE_CHARS)
        for name, value in outputs.items()
    }


def _shown(output: str) -> str:
    """Returns the beginning and the end of an output."""
    if len(output) <= MAX_OUTPUT_CHARS:
        return output
    half = MAX_OUTPUT_CHARS // 2
    left_out = len(output) - 2 * half
    return f"{output[:half]}\n... ({left_out:,} characters) ...\n{output[-half:]}"


def state_of_report(
    report: RunReport, outputs: Mapping[str, Any], title: str = "", budget: Budget | None = None
) -> RunView:
    """Returns the state of a run that is over, by its report. Times of steps are not in it."""
    run = RunView(0, 0, title, budget or Budget(), 0.0)
    for number, step in enumerate(report.steps, 1):
        run.take(ActionChosen(number, step.reasoning, step.code, bool(step.code)), 0.0)
        run.take(StepTaken(number, step, 0), 0.0)
    for usage in report.usage:
        run.totals.tokens += (usage.input_tokens or 0) + (usage.output_tokens or 0)
        run.totals.unknown_tokens |= usage.input_tokens is None or usage.output_tokens is None
    run.totals.cost, run.totals.unknown_cost = report.cost or 0.0, report.cost is None
    run.totals.llm_calls = report.llm_calls
    run.totals.failed = sum(bool(call.error) for call in report.sub_calls)
    run.take(RunEnded(report, outputs), 0.0)
    return run


__all__ = ["TOOLS", "CallSite", "RunView", "StepView", "Totals", "state_of_report", "texts_of"]
