"""Spans of OpenTelemetry."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace

from dspy_rlm.tracing.attributes import (
    Attributes,
    Content,
    Kind,
    content_attributes,
    kind_attributes,
)
from dspy_rlm.tracing.backends import Outcome, Span
from dspy_rlm.tracing.others import mlflow_shares_provider, mlflow_traces_dspy

TRACER = "dspy_rlm"


class OtelSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span, content: Content) -> None:
        """Takes a span that has begun."""
        self.span = span
        self._content = content

    def add(self, attributes: Attributes) -> None:
        """See `Span`."""
        self.span.set_attributes(attributes)

    def event(self, name: str, attributes: Attributes) -> None:
        """See `Span`."""
        self.span.add_event(name, attributes)

    def end(self, outcome: Outcome) -> None:
        """See `Span`."""
        if not self.span.is_recording():  # it has ended
            return
        self.add(
            {**content_attributes("output", outcome.output, self._content), **outcome.attributes}
        )
        if outcome.error:
            self.span.set_status(trace.StatusCode.ERROR, outcome.error)
        else:
            self.span.set_status(trace.StatusCode.OK)
        self.span.end()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """See `Span`."""
        inside = trace.set_span_in_context(self.span)
        token = otel_context.attach(inside)
        try:
            yield
        finally:
            # An abandoned coroutine is closed in another context, where OpenTelemetry would log an error.
            if otel_context.get_current() is inside:
                otel_context.detach(token)


class OtelBackend:
    """Spans of a tracer provider; see `Backend`."""

    def __init__(self, provider: Any, content: Content, has_dspys_spans: bool | None) -> None:
        """Starts nothing yet.

        Args:
            provider: The tracer provider; None for the global one.
            content: The part of prompts, code and outputs that spans have.
            has_dspys_spans: Whether another instrumentation has spans of modules and LM calls. None: it is found out.
        """
        self.content = content
        self._tracer = trace.get_tracer(TRACER, tracer_provider=provider)
        self._has_dspys_spans = has_dspys_spans

    def has_dspys_spans(self) -> bool:
        """See `Backend`. Asked at the start of each run: an instrumentation may come and go."""
        if self._has_dspys_spans is not None:
            return self._has_dspys_spans
        return _openinference_traces_dspy() or (mlflow_traces_dspy() and mlflow_shares_provider())

    def is_suppressed(self) -> bool:
        """Returns whether the calling code has turned instrumentation off, as `suppress_tracing` of OpenInference does."""
        return bool(otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY))

    def parent(self) -> Span | None:
        """See `Backend`."""
        span = trace.get_current_span()
        return OtelSpan(span, self.content) if span.get_span_context().is_valid else None

    def start(
        self, name: str, kind: Kind, parent: Span | None, value: Any, attributes: Attributes
    ) -> Span:
        """See `Backend`."""
        above = parent.span if isinstance(parent, OtelSpan) else trace.INVALID_SPAN
        span = self._tracer.start_span(
            name,
            trace.set_span_in_context(above),
            attributes={
                **kind_attributes(kind, name),
                **content_attributes("input", value, self.content),
                **attributes,
            },
        )
        return OtelSpan(span, self.content)


def _openinference_traces_dspy() -> bool:
    """Returns whether Phoenix's `DSPyInstrumentor` is active."""
    module = sys.modules.get("openinference.instrumentation.dspy")
    if module is None:
        return False
    # There is one instance per class: https://github.com/open-telemetry/opentelemetry-python-contrib.
    instrumentor = module.DSPyInstrumentor()
    return bool(getattr(instrumentor, "is_instrumented_by_opentelemetry", False))
