"""Spans in MLflow's own traces, beside those of `mlflow.dspy.autolog()`.

MLflow keeps its spans apart from OpenTelemetry's global provider, so they can be joined only by its own functions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from dspy_rlm.tracing.attributes import Attributes, Content, Kind
from dspy_rlm.tracing.backends import Outcome, Span


class MlflowSpan:
    """A span of MLflow."""

    def __init__(self, span: Any, content: Content) -> None:
        """Takes a span that has begun."""
        self.span = span
        self._content = content
        self._ended = False

    def add(self, attributes: Attributes) -> None:
        """See `Span`."""
        self.span.set_attributes(attributes)

    def event(self, name: str, attributes: Attributes) -> None:
        """See `Span`."""
        from mlflow.entities import SpanEvent

        self.span.add_event(SpanEvent(name, attributes=attributes))

    def end(self, outcome: Outcome) -> None:
        """See `Span`."""
        if self._ended:
            return
        self._ended = True
        attributes: Attributes = dict(outcome.attributes)
        if outcome.error:
            attributes["error"] = outcome.error
        self.span.end(
            outputs=self._content.text(outcome.output),
            attributes=attributes,
            status="ERROR" if outcome.error else "OK",
        )

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """See `Span`."""
        from mlflow.tracing.provider import safe_set_span_in_context

        with safe_set_span_in_context(self.span):
            yield


class MlflowBackend:
    """Spans of MLflow; see `Backend`."""

    def __init__(self, content: Content) -> None:
        """Starts nothing yet."""
        self.content = content

    def has_dspys_spans(self) -> bool:
        """See `Backend`."""
        return True

    def parent(self) -> Span | None:
        """See `Backend`."""
        import mlflow

        span = mlflow.get_current_active_span()
        return MlflowSpan(span, self.content) if span is not None else None

    def start(
        self, name: str, kind: Kind, parent: Span | None, value: Any, attributes: Attributes
    ) -> Span:
        """See `Backend`."""
        import mlflow

        above = parent.span if isinstance(parent, MlflowSpan) else None
        text = self.content.text(value)
        span = mlflow.start_span_no_context(
            name=name,
            span_type=kind,
            parent_span=above,
            inputs=None if text is None else {"value": text},
            attributes=attributes,
        )
        return MlflowSpan(span, self.content)
