"""The loop of a run, without I/O: a generator that yields requests and is sent their results.

`steps` decides; `drive` and `adrive` perform the requests, so that `forward` and `aforward` share one loop. The design is
that of httpx's `Auth.auth_flow`. A test drives the generator with a list of results, without an LM and
without a sandbox.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from dspy import AdapterParseError, LMError

from dspy_rlm.dspy_bridge.traces import TracedStep
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.runs.run import Run
from dspy_rlm.window.summaries import summary_in

T = TypeVar("T")


@dataclass(frozen=True)
class AskRoot:
    """Ask the root LM for its next action. The result is a `dspy.Prediction`."""

    fields: Mapping[str, str]
    """The inputs of the predictor by name."""


@dataclass(frozen=True)
class RunCell:
    """Run code in the sandbox. The result is a `CellResult`."""

    code: str


@dataclass(frozen=True)
class FillHistory(RunCell):
    """Run code of our own that fills the variable with all steps; it is no step of the run."""


@dataclass(frozen=True)
class Summarize:
    """Ask for a summary of old steps, which do not fit. The result is a `dspy.Prediction`."""

    fields: Mapping[str, str]
    """The inputs of the summary's predictor by name."""


@dataclass(frozen=True)
class Extract:
    """Ask for the outputs, because no turn is left. The result is a `dspy.Prediction`."""

    fields: Mapping[str, str]
    """The inputs of the extractor by name."""


@dataclass(frozen=True)
class Done:
    """The run has its outputs. Yielded last, because a generator that returns raises `StopIteration`."""


Request: TypeAlias = AskRoot | RunCell | Summarize | Extract | Done
Steps: TypeAlias = Generator[Request, Any, None]
OnUnreadable: TypeAlias = Callable[[Mapping[str, str], "TracedStep | None"], None]

# Errors of requests that the loop handles. All others end the run where they are raised.
_DECIDED_HERE = (AdapterParseError, BudgetExceededError, LMError)


def steps(run: Run, on_unreadable: OnUnreadable) -> Steps:
    """Yields the requests of a run in order, `Done` last.

    Args:
        run: The state, which is updated with the results.
        on_unreadable: Called with the predictor's inputs and the step when a reply could not be parsed:
            DSPy adds no entry to its trace then.
    """
    run.start()
    while not run.over:
        yield from _summarized(run)
        fields = run.action_inputs()
        try:
            action = yield AskRoot(fields)
        except AdapterParseError as error:
            code = run.read_unparsed(error)
            on_unreadable(fields, run.action)
        except BudgetExceededError as error:
            run.stop_asking(error)
            continue
        except LMError as error:
            run.overflow(error)
            continue
        else:
            code = run.read(action)
        if code is not None:
            if filling := run.past.refreshing(code):
                yield FillHistory(filling)
            run.observe((yield RunCell(code)))
    run.keep_submitted()
    while run.outputs is None:
        try:
            extracted = yield Extract(run.extract_inputs())
        except BudgetExceededError as error:
            run.shorten(error)
        except LMError as error:
            run.overflow(error)
        except AdapterParseError as error:
            run.extract_unparsed(error)
        else:
            run.extract(extracted)
    yield Done()


def _summarized(run: Run) -> Steps:
    """Yields the request for a summary of old steps, if one is needed. Without one, rules shorten the steps."""
    fields = run.summary_inputs()
    if fields is None:
        return
    try:
        summary = summary_in((yield Summarize(fields)))
    except _DECIDED_HERE:
        summary = ""
    run.take_summary(summary)


def drive(todo: Steps, perform: Callable[[Request], Any]) -> None:
    """Performs the requests in order, in this thread."""
    request = next(todo)
    while not isinstance(request, Done):
        try:
            result = perform(request)
        except _DECIDED_HERE as error:
            request = todo.throw(error)
        else:
            request = todo.send(result)


class Worker(Protocol):
    """A thread that runs jobs one at a time."""

    def run(self, work: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Runs the work in the thread and returns its result."""


async def adrive(todo: Steps, perform: Callable[[Request], Awaitable[Any]], thread: Worker) -> None:
    """Performs the requests in order; the generator advances in `thread`.

    So rendering a long history or validating a large output does not block the event loop.
    """
    request = await thread.run(next, todo)
    while not isinstance(request, Done):
        try:
            result = await perform(request)
        except _DECIDED_HERE as error:
            request = await thread.run(todo.throw, error)
        else:
            request = await thread.run(todo.send, result)
