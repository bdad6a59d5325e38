"""The typed events of a run, in one stream for observers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspy_rlm.prompts.variables import Variable
from dspy_rlm.reports.report import RunReport, Step


@dataclasses.dataclass(frozen=True)
class RunStarted:
    """The sandbox is open, and the inputs are in it."""

    variables: Sequence[Variable]
    max_iterations: int


@dataclasses.dataclass(frozen=True)
class IterationStarted:
    """The root LM is called next."""

    number: int
    max_iterations: int


@dataclasses.dataclass(frozen=True)
class ActionChosen:
    """The root LM has replied; its code runs next, if it has any that can run."""

    number: int
    reasoning: str
    code: str
    runs: bool = True
    """False if the reply has no code that can run."""


@dataclasses.dataclass(frozen=True)
class SubCallStarted:
    """The running cell calls other LMs."""

    number: int
    name: str
    """The function of the REPL, such as `predict_batched`."""

    count: int
    """The number of prompts or rows; 1 for a function that takes one."""


@dataclasses.dataclass(frozen=True)
class SubCallProgress:
    """One call of a batch has ended."""

    number: int
    name: str
    done: int
    """The number of calls that have ended, with or without a reply."""

    count: int
    """The number of calls of the batch. Equal prompts are one call."""

    seconds: float
    """The time since the batch began."""


@dataclasses.dataclass(frozen=True)
class RequestRetried:
    """A request of the root LM has failed, and is sent again."""

    number: int
    """The number of the turn."""

    error: str
    """The class and the text of its error."""

    seconds: float
    """The time until it is sent again."""


@dataclasses.dataclass(frozen=True)
class HistoryCompacted:
    """Older steps are shown shortened from the next prompt on, because they did not fit."""

    number: int
    """The number of the turn."""

    steps: int
    """The steps that are no longer shown whole."""

    tokens_before: int
    """Tokens of the prompt, estimated."""

    tokens_after: int


@dataclasses.dataclass(frozen=True)
class SoFar:
    """The spending of a run so far."""

    llm_calls: int
    """Calls that code caused."""

    tokens: int | None
    """None: an LM reports none."""

    cost: float | None
    """US dollars; None: the price of a call is unknown."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class StepTaken:
    """A step is complete."""

    number: int
    step: Step
    llm_calls: int
    """Sub-LM calls so far in the run."""

    so_far: SoFar | None = None
    """The spending so far; None after its last step, which the report follows."""


@dataclasses.dataclass(frozen=True)
class RunEnded:
    """The run is over, with or without outputs."""

    report: RunReport
    outputs: Mapping[str, Any] | None = None
    """The outputs; None if the run failed."""


Event = (
    RunStarted
    | IterationStarted
    | ActionChosen
    | SubCallStarted
    | SubCallProgress
    | RequestRetried
    | HistoryCompacted
    | StepTaken
    | RunEnded
)

Sink = Callable[[Event], None]
