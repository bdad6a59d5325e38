"""What happens in a run, as one stream of typed events for whoever wants to watch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from dspy_rlm.trajectory import RunReport, Step
from dspy_rlm.variables import Variable


@dataclasses.dataclass(frozen=True)
class RunStarted:
    """The sandbox is open, with the inputs in it."""

    variables: Sequence[Variable]
    max_iterations: int


@dataclasses.dataclass(frozen=True)
class ActionChosen:
    """The root LM has answered; its code runs next, if there is any that can."""

    number: int
    reasoning: str
    code: str


@dataclasses.dataclass(frozen=True)
class StepTaken:
    """A step is complete."""

    number: int
    step: Step
    llm_calls: int
    """Sub-LM calls of the run so far."""


@dataclasses.dataclass(frozen=True)
class RunEnded:
    """The run is over, well or badly."""

    report: RunReport


Event = RunStarted | ActionChosen | StepTaken | RunEnded

Sink = Callable[[Event], None]
