"""What happens in a run, as one stream of typed events for whoever wants to watch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspy_rlm.prompts.variables import Variable
from dspy_rlm.report import RunReport, Step


@dataclasses.dataclass(frozen=True)
class RunStarted:
    """The sandbox is open, with the inputs in it."""

    variables: Sequence[Variable]
    max_iterations: int


@dataclasses.dataclass(frozen=True)
class IterationStarted:
    """The root LM is asked next."""

    number: int
    max_iterations: int


@dataclasses.dataclass(frozen=True)
class ActionChosen:
    """The root LM has answered; its code runs next, if there is any that can."""

    number: int
    reasoning: str
    code: str
    runs: bool = True
    """False where there is no code that can be run."""


@dataclasses.dataclass(frozen=True)
class SubCallStarted:
    """The running cell asks other LMs."""

    number: int
    name: str
    """The function that it calls, such as `predict_batched`."""

    count: int
    """Prompts or rows; 1 where the function takes one."""


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
    outputs: Mapping[str, Any] | None = None
    """The outputs; None where it ended without."""


Event = RunStarted | IterationStarted | ActionChosen | SubCallStarted | StepTaken | RunEnded

Sink = Callable[[Event], None]
