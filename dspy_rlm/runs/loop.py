"""The loop of a run, without I/O: a generator that yields requests and is sent their results.

`steps` decides; `drive` and `adrive` perform the requests, so that `forward` and `aforward` share one loop. The design is
that of httpx's `Auth.auth_flow`. A test drives the generator with a list of results, without an LM and
without a sandbox.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from dspy import AdapterParseError, LMError

from dspy_rlm.dspy_bridge.traces import TracedStep
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.runs.run import Run
from dspy_rlm.window.summaries import summary_in
from sandbox_runtime import Failed

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
class ReadOutputs:
    """Read the variables that are called like outputs. The result has the values by name."""

    names: Sequence[str]


@dataclass(frozen=True)
class Done:
    """The run has its outputs. Yielded last, because a generator that returns raises `StopIteration`."""


Request: TypeAlias = AskRoot | RunCell | Summarize | Extract | ReadOutputs | Done
Steps: TypeAlias = Generator[Request, Any, None]
OnUnreadable: TypeAlias = Callable[[Mapping[str, str], "TracedStep | None"], None]


def steps(run: Run, on_unreadable: OnUnreadable) -> Steps:
    """Yields the requests of a run in order, `Done` last.

    Args:
        run: The state, which is updated with the results.
        on_unreadable: Called with the predictor's inputs and the step when a reply could not be parsed:
            DSPy adds no entry to its trace then.
    """
    run.start()
    try:
        yield from _turns(run, on_unreadable)
        if run.outputs is None and run.ending.gathers_first:
            yield from _gather(run)
            run.settle()
        yield from _extraction(run)
    except Exception:
        yield from _gather(run)
        if not run.ending.stop.requested:
            raise
        run.settle(may_extract=False)
    yield Done()


def _turns(run: Run, on_unreadable: OnUnreadable) -> Steps:
    while not run.over:
        yield from _summarized(run)
        fields = run.action_inputs()
        try:
            action = yield AskRoot(fields)
        except AdapterParseError as error:
            code = run.read_unparsed(error)
            on_unreadable(fields, run.action)
        except Exception as error:  # noqa: BLE001 - raised again unless it only ends the turn
            run.not_answered(error)
            continue
        else:
            code = run.read(action)
        if code is not None:
            try:
                if filling := run.past.refreshing(code):
                    yield FillHistory(filling)
                result = yield RunCell(code)
            except Exception as error:
                if not run.ending.stop.requested:
                    raise
                result = Failed(type(error).__name__, str(error))
            run.observe(result)
    run.keep_submitted()


def _gather(run: Run) -> Steps:
    """Reads the outputs that cells have assigned. A sandbox that cannot be read holds none."""
    if names := run.ending.to_read():
        with contextlib.suppress(Exception):
            run.ending.gathered.assigned((yield ReadOutputs(names)))


def _extraction(run: Run) -> Steps:
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


def _summarized(run: Run) -> Steps:
    """Yields the request for a summary of old steps, if one is needed. Without one, rules shorten the steps."""
    fields = run.summary_inputs()
    if fields is None:
        return
    try:
        summary = summary_in((yield Summarize(fields)))
    except (AdapterParseError, BudgetExceededError, LMError):
        summary = ""
    run.take_summary(summary)


def drive(todo: Steps, perform: Callable[[Request], Any]) -> None:
    """Performs the requests in order, in this thread."""
    request = next(todo)
    while not isinstance(request, Done):
        try:
            result = perform(request)
        except StopIteration:  # a generator would turn it into another error
            raise
        except Exception as error:  # noqa: BLE001 - raised again by the generator if it does not handle it
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
        except (StopIteration, StopAsyncIteration):
            raise
        except Exception as error:  # noqa: BLE001 - raised again by the generator if it does not handle it
            request = await thread.run(todo.throw, error)
        else:
            request = await thread.run(todo.send, result)
