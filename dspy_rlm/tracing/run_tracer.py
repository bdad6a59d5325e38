"""The spans of one run: itself, its iterations, its cells, the calls of its code, and its LM calls.

Parents are passed on explicitly: a cell belongs to the iteration that the run is in, a call of a function to the cell that is running,
an LM call to the call of a function in whose context it is made. Each span is also current, in OpenTelemetry's sense, for the
code below it, so spans of other instrumentations nest; the threads and the event loops of a run inherit its context. Nothing here
raises into the run.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from dspy_rlm.events import Event, IterationStarted, RunEnded, RunStarted, StepTaken
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.protocols.middleware import HostFunction, Wrapper
from dspy_rlm.protocols.recording import CallLog
from dspy_rlm.tracing import attributes as of
from dspy_rlm.tracing.attributes import Attributes
from dspy_rlm.tracing.backends import Backend, Outcome, Span
from dspy_rlm.tracing.call_spans import GuestCall, TracedCall
from dspy_rlm.tracing.span_writer import SpanWriter
from sandbox_runtime import CellResult, Failed, Submitted

T = TypeVar("T")

# The call of a host function that this code belongs to, with the tracer of its run.
_calling: ContextVar[tuple[RunTracer, Span] | None] = ContextVar("rlm_traced_call", default=None)


class RunTracer:
    """The spans of one run. Safe to use from any thread: a run is in one iteration, and in one cell, at a time."""

    def __init__(
        self,
        backend: Backend,
        secrets: Callable[[], list[str]],
        above: RunTracer | None = None,
        **facts: Any,
    ) -> None:
        """Starts nothing yet: entering it does.

        Args:
            backend: What the spans are written to.
            secrets: Returns the secrets that no span may show.
            above: The tracer of the run above, that the calling code has started this one for.
            **facts: What identifies the run; attributes of its span.
        """
        self.backend = backend
        self._spans = SpanWriter(backend, secrets)
        self._above = above
        self._is_guest = backend.has_dspys_spans()
        self._iteration: Span | None = None
        self._cell: Span | None = None
        self._outcome: Outcome | None = None
        self._is_left = False
        self._facts: Attributes = {
            f"dspy_rlm.{name}": value for name, value in facts.items() if value is not None
        }
        self._run: Span | None = None
        self._owns_run = False
        self._lock = threading.Lock()  # guards the next
        self._spent: dict[int, list[float]] = {}

    # ---- The run ----

    def __enter__(self) -> RunTracer:
        """Starts the span of the run, unless another instrumentation has one: not if `forward` is called directly."""
        above = self._above
        self._run = self._parent(above._place() if above is not None else None)
        self._owns_run = not self._is_guest or self._run is None
        if self._owns_run:
            self._run = self._spans.start(of.AGENT, "AGENT", self._run, None, self._facts)
        return self

    def __exit__(self, _type: Any, error: BaseException | None, _traceback: Any) -> None:
        """Ends what is still open, with the exception that ended the run, if any.

        The span of a run that is left without one, and has not told its end yet, waits for that: a run tells it when its
        sandbox is closed.
        """
        outcome = self._outcome or Outcome()
        if error is not None and not outcome.error:
            outcome = Outcome(outcome.output, outcome.attributes, self._spans.error(error))
        self._end_cell(Outcome(error=outcome.error))
        self._end_iteration(Outcome(error=outcome.error))
        self._is_left = True
        if error is not None or self._outcome is not None:
            self._end_run(outcome)

    def _end_run(self, outcome: Outcome) -> None:
        if self._owns_run:
            self._spans.end(self._run, outcome)
        else:
            self._spans.add(self._run, outcome.attributes)

    def take(self, event: Event) -> None:
        """Follows the run by its events; a `Sink`."""
        match event:
            case RunStarted(variables=variables) if self._owns_run:
                described = {
                    one.name: f"{one.type_name}, {one.size}: {one.preview}" for one in variables
                }
                content = of.content_attributes(
                    "input", self._spans.clean(described), self.backend.content
                )
                self._spans.add(self._run, content)
            case IterationStarted(number=number):
                self._end_iteration(Outcome())
                facts = {"dspy_rlm.iteration": number, **({} if self._owns_run else self._facts)}
                self._iteration = self._spans.start(
                    f"iteration {number}", "CHAIN", self._run, None, facts
                )
            case StepTaken(step=step):
                self._end_iteration(Outcome(self._spans.clean(step.output)))
            case RunEnded(report=report, outputs=outputs):
                figures = {
                    name: getattr(report, name)
                    for name in (
                        "status",
                        "stopped_by",
                        "iterations",
                        "llm_calls",
                        "cost",
                        "seconds",
                    )
                }
                failed = f"The run failed: {report.stopped_by}" if report.status == "failed" else ""
                shown = None if outputs is None else self._spans.clean(of.as_json(dict(outputs)))
                self._outcome = Outcome(shown, of.report_attributes(figures), failed)
                if self._is_left:
                    self._end_run(self._outcome)
            case _:
                pass

    # ---- Requests of the loop ----

    @contextlib.contextmanager
    def performing(self, code: str | None) -> Iterator[Callable[[Any], None]]:
        """Makes the iteration current in the block; with code, a cell. Yields a function that takes the cell's result."""
        ended: list[Outcome] = []

        def take(result: Any) -> None:
            ended.append(self._cell_outcome(result))

        if code is None:
            with self._spans.current(self._place()):
                yield take
            return
        self._cell = span = self._spans.start(
            of.PYTHON, "TOOL", self._place(), self._spans.clean(code), {}
        )
        try:
            with self._spans.current(span):
                yield take
        except BaseException as error:
            self._end_cell(Outcome(error=self._spans.error(error)))
            raise
        self._end_cell(ended[0] if ended else Outcome())

    def _cell_outcome(self, result: CellResult) -> Outcome:
        output = self._spans.clean(result.output)
        outcome: Attributes = {"dspy_rlm.cell.outcome": type(result).__name__.lower()}
        match result:
            case Failed():
                return Outcome(output, outcome, self._spans.error(result))
            case Submitted(outputs=outputs):
                return Outcome(self._spans.clean(of.as_json({"SUBMIT": outputs})), outcome)
        return Outcome(output, outcome)

    # ---- Calls of the running cell ----

    def wrapper(self, tools: Collection[str]) -> Wrapper:
        """Returns a wrapper that makes spans of the calls of functions. `tools` are the names of the user's."""
        return lambda name, function: self._traced(name, function, is_tool=name in tools)

    def _traced(self, name: str, function: HostFunction, *, is_tool: bool) -> HostFunction:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_tool and self._is_guest:  # the other instrumentation has a span of DSPy's tool
                span = self._place()
                done: Callable[[Outcome], None] = _nothing
            else:
                arguments = self._spans.clean(
                    of.as_json({**({"args": args} if args else {}), **kwargs})
                )
                span = self._spans.start(name, "TOOL", self._place(), arguments, {})
                done = functools.partial(self._spans.end, span)
            try:
                with self._calls_of(span):
                    result = function(*args, **kwargs)
            except BaseException as error:
                done(Outcome(error=self._spans.error(error)))
                raise
            if inspect.iscoroutine(result):
                return self._awaited(span, done, result)
            done(self._returned(result))
            return result

        return call

    async def _awaited(
        self, span: Span | None, done: Callable[[Outcome], None], coroutine: Any
    ) -> Any:
        try:
            with self._calls_of(span):
                result = await coroutine
        except BaseException as error:
            done(Outcome(error=self._spans.error(error)))
            raise
        done(self._returned(result))
        return result

    def _returned(self, result: Any) -> Outcome:
        text = result if isinstance(result, str) else of.as_json(result)
        return Outcome(self._spans.clean(str(text)))

    @contextlib.contextmanager
    def _calls_of(self, span: Span | None) -> Iterator[None]:
        if span is None:
            yield
            return
        token = _calling.set((self, span))
        try:
            with self._spans.current(span):
                yield
        finally:
            with contextlib.suppress(
                ValueError
            ):  # an abandoned coroutine is closed in another context
                _calling.reset(token)

    # ---- LM calls ----

    @contextlib.contextmanager
    def calling(self, kind: str, depth: int, arguments: CallArguments) -> Iterator[CallLog]:
        """Makes a span of an LM call; see `Recorder`."""
        if self._is_guest:
            yield GuestCall(self.spend, self._caller())
            return
        span = self._spans.start(
            f"{kind} {arguments.model}", "LLM", self._parent(self._caller()), None, {}
        )
        log = TracedCall(self._spans, span)
        self._spans.add(span, {"dspy_rlm.call.kind": kind, "dspy_rlm.depth": depth})
        self._spans.quietly(lambda: log.began(arguments))
        try:
            with self._spans.current(span):
                yield log
        except BaseException as error:
            log.ended(self._spans.error(error))
            raise
        log.ended()

    def spend(self, span: Span | None, figures: Sequence[float | None]) -> None:
        """Adds the tokens and the cost of a call to what a span says of the calls below it."""
        with self._lock:
            totals = self._spent.setdefault(id(span), [0, 0, 0.0])
            totals[:] = [total + (more or 0) for total, more in zip(totals, figures, strict=True)]
            names = ("input_tokens", "output_tokens", "cost")
            self._spans.add(
                span, {f"dspy_rlm.{name}": one for name, one in zip(names, totals, strict=True)}
            )

    def _caller(self) -> Span | None:
        calling = _calling.get()
        return calling[1] if calling is not None and calling[0] is self else self._place()

    # ---- Spans ----

    def _place(self) -> Span | None:
        """Returns the innermost span of the run itself."""
        return self._cell or self._iteration or self._run

    def _parent(self, explicit: Span | None) -> Span | None:
        """Returns the current span of the calling code if it is below a call of this process's runs, else `explicit`."""
        calling = _calling.get()
        current = self._spans.quietly(self.backend.parent)
        if explicit is None or (self._is_guest and current is not None):
            return current
        if calling is not None and current is not None:
            return current
        return calling[1] if calling is not None else explicit

    def _end_iteration(self, outcome: Outcome) -> None:
        span, self._iteration = self._iteration, None
        self._spans.end(span, outcome)

    def _end_cell(self, outcome: Outcome) -> None:
        span, self._cell = self._cell, None
        self._spans.end(span, outcome)


def _nothing(_outcome: Outcome) -> None:
    """Ends no span."""


def traced(work: Callable[[], T], tracer: RunTracer | None, code: str | None) -> T:
    """Performs a request of the loop, with its spans."""
    if tracer is None:
        return work()
    with tracer.performing(code) as take:
        result = work()
        if code is not None:
            take(result)
        return result


async def atraced(
    work: Callable[[], Awaitable[T]], tracer: RunTracer | None, code: str | None
) -> T:
    """Like `traced`, on an event loop."""
    if tracer is None:
        return await work()
    with tracer.performing(code) as take:
        result = await work()
        if code is not None:
            take(result)
        return result
