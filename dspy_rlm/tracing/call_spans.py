"""The span of one LM call, and the figures of a call that another instrumentation has a span of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.protocols.recording import Attempt
from dspy_rlm.tracing import attributes as of
from dspy_rlm.tracing.attributes import Attributes
from dspy_rlm.tracing.backends import Outcome, Span
from dspy_rlm.tracing.span_writer import SpanWriter

Spend: TypeAlias = Callable[["Span | None", Sequence["float | None"]], None]
"""Adds the tokens in, the tokens out and the cost of a call to a span."""


class GuestCall:
    """An LM call that another instrumentation has a span of: its figures, which that one lacks, are added to our span above."""

    def __init__(self, spend: Spend, span: Span | None) -> None:
        self._spend = spend
        self._span = span

    def sent(self, tokens: float, cost: float) -> None:
        """Records nothing: a span has what a call took."""

    def attempted(self, attempt: Attempt) -> None:
        """See `CallLog`."""
        call = attempt.spent.call
        self._spend(self._span, (call.input_tokens, call.output_tokens, call.cost))


class TracedCall:
    """The span of one LM call, with the sum of its attempts."""

    def __init__(self, spans: SpanWriter, span: Span | None) -> None:
        self._spans = spans
        self._span = span
        self._attempts: list[Attempt] = []

    def began(self, arguments: CallArguments) -> None:
        """Adds the model and the prompt."""
        content = self._spans.backend.content
        messages = arguments.options.get("messages")
        if not messages:
            messages = [{"role": "user", "content": arguments.prompt or ""}]
        cleaned = [
            {"role": one.get("role"), "content": self._spans.clean(_content(one))}
            for one in messages
            if isinstance(one, Mapping)
        ]
        options = {
            name: value
            for name, value in arguments.merged.items()
            if isinstance(value, (int, float)) and name not in ("num_retries", "cache")
        }
        last = cleaned[-1]["content"] if cleaned else None
        self._spans.add(
            self._span,
            {
                **of.model_attributes(arguments.model, options),
                **of.message_attributes("input", cleaned, content),
                **of.content_attributes("input", last, content),
            },
        )

    def sent(self, tokens: float, cost: float) -> None:
        """Records nothing: a span has what a call took."""

    def attempted(self, attempt: Attempt) -> None:
        """See `CallLog`."""
        self._attempts.append(attempt)
        error = attempt.spent.call.error
        if error and self._span is not None:
            span, text = self._span, self._spans.clean(error)
            self._spans.quietly(lambda: span.event("attempt failed", {"error": text}))

    def ended(self, error: str = "") -> None:
        """Ends the span."""
        calls = [attempt.spent.call for attempt in self._attempts]
        answered = [attempt for attempt in self._attempts if attempt.outputs is not None]
        attributes: Attributes = {"dspy_rlm.attempts": len(calls)}
        output = None
        if calls:
            attributes |= of.usage_attributes(
                _sum(call.input_tokens for call in calls),
                _sum(call.output_tokens for call in calls),
                _sum(call.cost for call in calls),
            )
            if calls[-1].cached:
                attributes["dspy_rlm.cached"] = True
        if answered:
            texts = [self._spans.clean(text) for text in of.reply_texts(answered[-1].outputs)]
            replies = [{"role": "assistant", "content": text} for text in texts]
            attributes |= of.message_attributes("output", replies, self._spans.backend.content)
            attributes |= of.finish_attributes(answered[-1].finish_reason)
            output = texts[0] if texts else None
        self._spans.end(self._span, Outcome(output, attributes, error))


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else of.as_json(content)


def _sum(parts: Iterator[Any]) -> Any:
    known = list(parts)
    return None if None in known else sum(known)
