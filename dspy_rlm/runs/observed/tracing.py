"""Joins a run with its spans: the tracer, the event sink, the wrapper of its functions, the requests of its loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from dspy_rlm.events import Sink
from dspy_rlm.journal.recorder import RunRecorder
from dspy_rlm.protocols.middleware import Wrapper
from dspy_rlm.run_context import RunContext, current_outer_run
from dspy_rlm.runs.loop import Request, RunCell
from dspy_rlm.tracing.instrumenting import current_backend
from dspy_rlm.tracing.run_tracer import RunTracer, atraced, traced

T = TypeVar("T")


def with_tracer(context: RunContext) -> RunContext:
    """Returns the context with the tracer of this run, if runs are traced."""
    above = context.tracer
    backend = above.backend if above is not None else current_backend()
    if backend is None:
        return context
    recorder = context.recorder
    tracer = RunTracer(
        backend,
        context.secrets,
        above or current_outer_run().tracer,
        run_id=recorder.run_id if isinstance(recorder, RunRecorder) else None,
        journal=recorder.path,
        depth=context.depth,
    )
    return dataclasses.replace(context, tracer=tracer)


def tracing_sinks(context: RunContext) -> list[Sink]:
    """Returns the sinks for the events of a run."""
    return [context.tracer.take] if context.tracer else []


def tracing_wrappers(context: RunContext, tools: Collection[str]) -> list[Wrapper]:
    """Returns the wrappers for the functions of a run. `tools` are the names of the user's."""
    return [context.tracer.wrapper(tools)] if context.tracer else []


def performing(
    tracer: RunTracer | None, perform: Callable[[Request], Any]
) -> Callable[[Request], Any]:
    """Returns a function that performs the requests of the loop, with their spans."""
    if tracer is None:
        return perform
    return lambda request: traced(lambda: perform(request), tracer, _code_of(request))


def aperforming(
    tracer: RunTracer | None, perform: Callable[[Request], Awaitable[Any]]
) -> Callable[[Request], Awaitable[Any]]:
    """Like `performing`, on an event loop."""
    if tracer is None:
        return perform
    return lambda request: atraced(lambda: perform(request), tracer, _code_of(request))


def _code_of(request: Request) -> str | None:
    """Returns the code of a cell; None for all other requests, cells of our own among them."""
    return request.code if type(request) is RunCell else None
