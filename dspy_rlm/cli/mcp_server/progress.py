"""The progress of a run as numbers that only grow, with a line of text."""

from __future__ import annotations

import dataclasses

from dspy_rlm.events import (
    Event,
    IterationStarted,
    RequestRetried,
    StepTaken,
    SubCallProgress,
    SubCallStarted,
)
from dspy_rlm.reports.text import dollars


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run: its turns so far, out of the most that it may take."""

    done: float
    total: float
    text: str


class RunProgress:
    """Turns the events of a run into progress. The number of turns is an upper bound: a run may end sooner."""

    def __init__(self) -> None:
        self._total = 1.0
        self._done = -1.0

    def after(self, event: Event) -> Progress | None:
        """Returns the progress after an event; None if there is nothing new."""
        match event:
            case IterationStarted(number=number, max_iterations=most):
                self._total = float(most)
                return self._at(number - 1, f"turn {number} of at most {most}")
            case SubCallStarted(number=number, name=name, count=count):
                return self._at(number - 0.9, f"turn {number}: {name} with {count:,} prompts")
            case SubCallProgress(number=number, name=name, done=done, count=count):
                part = 0.1 + 0.8 * done / max(count, 1)
                return self._at(number - 1 + part, f"turn {number}: {name}, {done:,} of {count:,}")
            case RequestRetried(number=number, seconds=seconds):
                return self._at(0.0, f"turn {number}: tried again in {seconds:.0f} s")
            case StepTaken(number=number, so_far=so_far):
                cost = so_far.cost if so_far is not None else None
                more = f", {dollars(cost)} so far" if cost else ""
                return self._at(number, f"turn {number} of at most {self._total:.0f} done{more}")
        return None

    def _at(self, done: float, text: str) -> Progress:
        # A client may treat an equal number as an error.
        self._done = max(done, self._done + 0.001)
        return Progress(min(self._done, self._total), self._total, text)
