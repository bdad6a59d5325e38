"""Logs the events of a run to the logger `dspy_rlm`: a line each at INFO, code and output at DEBUG."""

from __future__ import annotations

import itertools
import logging

from dspy_rlm.events import (
    ActionChosen,
    Event,
    HistoryCompacted,
    RequestRetried,
    RunEnded,
    RunStarted,
    Sink,
    SoFar,
    StepTaken,
    SubCallStarted,
)
from dspy_rlm.reports.text import count, running_total, summary
from dspy_rlm.terminal.escaping import printable

logger = logging.getLogger("dspy_rlm")

_numbers = itertools.count(1)


def logging_sink(depth: int) -> Sink | None:
    """Returns a sink that logs the events of one run; None if nothing would be logged."""
    if not logger.isEnabledFor(logging.INFO):
        return None
    run = f"run {next(_numbers)}{f', depth {depth}' if depth else ''}"

    def log(event: Event) -> None:
        if line := _line(event):
            logger.info("%s: %s", run, printable(line))
        if details := _details(event):
            logger.debug("%s: %s", run, printable(details))

    return log


def _line(event: Event) -> str:
    match event:
        case RunStarted(variables=variables):
            return (
                f"started with {', '.join(variable.name for variable in variables) or 'no inputs'}"
            )
        case ActionChosen(number=number, code=code, runs=True):
            return f"step {number}: running {count(len(code.splitlines()), 'line')} of code"
        case ActionChosen(number=number):
            return f"step {number}: the reply has no code"
        case SubCallStarted(number=number, name=name, count=calls):
            return f"step {number}: {name}, {count(calls, 'call')}"
        case RequestRetried(number=number, error=error, seconds=seconds):
            return f"step {number}: the request is sent again in {seconds:.0f} s: {error}"
        case HistoryCompacted(number, steps, before, after):
            sizes = f"about {before:,} tokens of the prompt, now {after:,}"
            return f"step {number}: {count(steps, 'older step')} shortened: {sizes}"
        case StepTaken(number=number, step=step, so_far=SoFar() as so_far):
            size = count(len(step.output), "character")
            total = running_total(so_far.llm_calls, so_far.tokens, so_far.cost, so_far.seconds)
            return f"step {number}: {size} of output, {total}"
        case StepTaken(number=number, step=step, llm_calls=calls):
            size = count(len(step.output), "character")
            return f"step {number}: {size} of output, {count(calls, 'sub-LM call')} so far"
        case RunEnded(report=report):
            return summary(report)
    return ""


def _details(event: Event) -> str:
    match event:
        case ActionChosen(number=number, reasoning=reasoning, code=code):
            return f"step {number}: {reasoning}\n{code}"
        case StepTaken(number=number, step=step):
            return f"step {number}: output:\n{step.output}"
    return ""
