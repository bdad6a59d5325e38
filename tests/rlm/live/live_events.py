"""Runs of the live view without a run: events, and the states that they make."""

from __future__ import annotations

from typing import Any

from dspy_rlm.budget.budget import Budget
from dspy_rlm.events import ActionChosen, IterationStarted, RunEnded, RunStarted, StepTaken
from dspy_rlm.live.part_times import PartTimes
from dspy_rlm.live.state import RunView
from dspy_rlm.live.tree import Tree
from dspy_rlm.prompts.variables import Variable
from dspy_rlm.reports.report import RunReport, Step


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Returns the seconds."""
        return self.now


class Silent:
    """A display that counts what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, _tree: Tree) -> None:
        """Counts it."""
        self.calls.append("begin")

    def changed(self, _tree: Tree) -> None:
        """Counts it."""
        self.calls.append("changed")

    def end(self, _tree: Tree) -> None:
        """Counts it."""
        self.calls.append("end")


def view(number: int = 1, depth: int = 0, **limits: Any) -> RunView:
    """Returns the state of a run that has not begun, at second 100."""
    return RunView(number, depth, "log -> answer", Budget(**limits), 100.0, times=PartTimes(100.0))


def report(status: str = "submitted", steps: int = 1, **fields: Any) -> RunReport:
    """Returns the report of a run of three seconds."""
    taken = tuple(Step("", "print(1)", "1") for _ in range(steps))
    stopped_by = {"submitted": "SUBMIT"}.get(status, "LMServerError")
    return RunReport(status, stopped_by, taken, 0, 3.0, **fields)  # type: ignore[arg-type]


def started() -> RunStarted:
    """The beginning of a run with one input."""
    return RunStarted([Variable("log", "str", "80 characters", "")], 20)


def turn(number: int, code: str, output: str = "", *, reasoning: str = "Look.") -> list[Any]:
    """The events of a whole turn."""
    return [
        IterationStarted(number, 20),
        ActionChosen(number, reasoning, code),
        StepTaken(number, Step(reasoning, code, output), 0),
    ]


def running(run: RunView, code: str, *, number: int = 1, now: float = 100.0) -> RunView:
    """Returns the run after the code of a turn has begun."""
    if number == 1:
        run.take(started(), now)
    run.take(IterationStarted(number, 20), now)
    run.take(ActionChosen(number, "Look.", code), now)
    return run


def ended(run: RunView, now: float = 103.0, **fields: Any) -> RunView:
    """Returns the run after its end, with an answer."""
    run.take(RunEnded(report(steps=len(run.steps), **fields), {"answer": "the job"}), now)
    return run
