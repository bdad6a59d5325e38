"""A run of a journal as spans of OpenTelemetry: those that `dspy_rlm.tracing` makes while a run goes on, afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dspy_rlm.journal.export.contents import (
    arguments_of,
    messages_of,
    reply_of,
    text_of,
    value_of,
    values_of,
)
from dspy_rlm.journal.records import CallRecord, RunRecord, StepRecord, ToolRecord
from dspy_rlm.tracing import attributes as of
from dspy_rlm.tracing.attributes import Attributes, Content, Kind

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span


def to_spans(
    record: RunRecord,
    exporter: SpanExporter,
    *,
    content: bool = True,
    max_chars: int = 50_000,
    resource: Resource | None = None,
) -> None:
    """Exports a run, with its sub-runs, as one trace. The ids depend on the run alone: the same spans again replace the first.

    Args:
        record: The run.
        exporter: Takes the spans. It is flushed, and not shut down.
        content: Whether spans have prompts, replies, code, outputs, arguments and results.
        max_chars: The characters of each of these that a span has.
        resource: What the spans say of their source; None is OpenTelemetry's default.

    Raises:
        ModuleNotFoundError: OpenTelemetry's SDK is not installed: `pip install "dspy-rlm[otel]"`.
    """
    try:
        from opentelemetry.sdk.trace import TracerProvider, sampling
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Spans need OpenTelemetry\'s SDK. Install it: pip install "dspy-rlm[otel]".',
            name=error.name,
        ) from error

    provider = TracerProvider(
        sampler=sampling.ALWAYS_ON,
        resource=resource,
        id_generator=_ids(record.run_id),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    _Writer(provider.get_tracer("dspy_rlm"), Content(content, max_chars)).run(record, None)
    exporter.force_flush()


def _ids(run_id: str) -> Any:
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class FromRun(IdGenerator):
        """Ids from the run's own and the number of the span."""

        def __init__(self) -> None:
            self._spans = 0

        def generate_trace_id(self) -> int:
            """Returns the id of the only trace."""
            return _number(f"trace {run_id}", 16)

        def generate_span_id(self) -> int:
            """Returns the id of the next span."""
            self._spans += 1
            return _number(f"span {run_id} {self._spans}", 8)

    return FromRun()


def _number(text: str, size: int) -> int:
    """Returns a number of so many bytes that is not 0."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size]) or 1


class _Writer:
    """Writes the spans of records, each below the one that its record belongs to."""

    def __init__(self, tracer: Any, content: Content) -> None:
        self._tracer = tracer
        self._content = content

    def run(self, run: RunRecord, above: Span | None) -> float:
        """Writes a run; returns its end."""
        started = run.started_at.timestamp()
        facts: Attributes = {"dspy_rlm.run_id": run.run_id, "dspy_rlm.depth": run.depth}
        if run.path:
            facts["dspy_rlm.journal"] = run.path
        inputs = values_of(run, run.inputs) if self._content.included else {}
        span = self._start(of.AGENT, "AGENT", above, started, inputs, facts)
        ends = [started]
        ends += [self._call(call, span) for call in run.setup]
        ends += [self._step(run, step, span) for step in run.all_steps]
        ends += [self._call(call, span) for call in run.extraction]
        report: Mapping[str, Any] = run.ended or {}
        seconds = report.get("seconds")
        if isinstance(seconds, (int, float)):
            ends.append(started + float(seconds))
        outputs = None if run.outputs is None else values_of(run, run.outputs)
        error = ""
        if run.ended is None and run.format == "dspy-rlm.journal":
            error = "The journal ends before the run."
        elif report.get("status") == "failed":
            error = f"The run failed: {report.get('stopped_by')}"
        self._end(span, max(ends), outputs, of.report_attributes(report), error)
        return max(ends)

    def _step(self, run: RunRecord, step: StepRecord, above: Span) -> float:
        facts: Attributes = {"dspy_rlm.iteration": step.number}
        started = step.started_at or _first(step)
        span = self._start(f"iteration {step.number}", "CHAIN", above, started, None, facts)
        ends = [started]
        ends += [self._call(call, span) for call in step.root_calls]
        ends.append(self._cell(run, step, span))
        self._end(span, max(ends), text_of(step.shown), {})
        return max(ends)

    def _cell(self, run: RunRecord, step: StepRecord, above: Span) -> float:
        """Writes a cell with what its code called; without a cell, these are below the iteration."""
        cell = step.cell
        span = above
        if cell is not None:
            span = self._start(of.PYTHON, "TOOL", above, cell.started_at, text_of(cell.code), {})
        ends = [cell.started_at + cell.seconds] if cell is not None else [0.0]
        known = {tool.call_id for tool in step.tools}
        ends += [self._tool(run, step, tool, span) for tool in step.tools]
        ends += [self._call(call, span) for call in step.sub_calls if call.parent_call not in known]
        ends += [self.run(one, span) for one in step.sub_runs if one.parent_call not in known]
        if cell is not None:
            error = ""
            if cell.outcome == "failed":
                error = self._error(cell.error_type, cell.message)
            outcome: Attributes = {"dspy_rlm.cell.outcome": cell.outcome}
            self._end(span, max(ends), text_of(cell.output), outcome, error)
        return max(ends)

    def _tool(self, run: RunRecord, step: StepRecord, tool: ToolRecord, above: Span) -> float:
        arguments = arguments_of(run, tool) if tool.arguments is not None else None
        started = tool.started_at or step.started_at
        span = self._start(tool.name, "TOOL", above, started, arguments, {})
        ends = [started + (tool.seconds or 0.0)]
        ends += [self._call(c, span) for c in step.sub_calls if c.parent_call == tool.call_id]
        ends += [self.run(one, span) for one in step.sub_runs if one.parent_call == tool.call_id]
        error = self._error(tool.error.type, tool.error.message) if tool.error else ""
        self._end(span, max(ends), value_of(run, tool.result), {}, error)
        return max(ends)

    def _call(self, call: CallRecord, above: Span) -> float:
        content = self._content
        messages = messages_of(call) if content.included else []
        facts: Attributes = {"dspy_rlm.call.kind": call.kind, "dspy_rlm.depth": call.depth}
        started = call.started_at or min((one.started_at for one in call.attempts), default=0.0)
        span = self._start(
            f"{call.kind} {call.model}".rstrip(),
            "LLM",
            above,
            started,
            messages[-1].get("content") if messages else None,
            {
                **facts,
                **of.model_attributes(call.model, _figures(call.options)),
                **of.message_attributes("input", messages, content),
            },
        )
        end = started
        for attempt in call.attempts:
            end = max(end, attempt.started_at + attempt.seconds)
            if attempt.error:
                error = content.text(attempt.error) or ""
                span.add_event("attempt failed", {"error": error}, _nanoseconds(end))
        attributes: Attributes = {"dspy_rlm.attempts": len(call.attempts)}
        if call.attempts:
            attributes |= of.usage_attributes(call.input_tokens, call.output_tokens, call.cost)
        if call.cached:
            attributes["dspy_rlm.cached"] = True
        reply = reply_of(call) if content.included else None
        if reply is not None:
            answer = {"role": "assistant", "content": reply}
            attributes |= of.message_attributes("output", [answer], content)
        attributes |= of.finish_attributes(call.finish_reason)
        error = self._error(call.error.type, call.error.message) if call.error else ""
        self._end(span, end, reply, attributes, error)
        return end

    def _error(self, kind: str, message: Any) -> str:
        return f"{kind}: {text_of(message)[:10_000]}" if self._content.included else kind

    def _start(
        self,
        name: str,
        kind: Kind,
        above: Span | None,
        started: float,
        value: Any,
        more: Attributes,
    ) -> Span:
        from opentelemetry import trace

        span: Span = self._tracer.start_span(
            name,
            trace.set_span_in_context(above or trace.INVALID_SPAN),
            start_time=_nanoseconds(started),
            attributes={
                **of.kind_attributes(kind, name),
                **of.content_attributes("input", value, self._content),
                **more,
            },
        )
        return span

    def _end(
        self, span: Span, end: float, value: Any, attributes: Attributes, error: str = ""
    ) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attributes({**of.content_attributes("output", value, self._content), **attributes})
        span.set_status(StatusCode.ERROR if error else StatusCode.OK, error or None)
        span.end(_nanoseconds(end))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _first(step: StepRecord) -> float:
    """Returns the earliest time of a step that is known."""
    times: Iterable[float] = (
        *(call.started_at for call in step.calls),
        *(tool.started_at for tool in step.tools),
        *((step.cell.started_at,) if step.cell else ()),
    )
    return min((time for time in times if time), default=0.0)


def _figures(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if isinstance(value, (int, float))}
