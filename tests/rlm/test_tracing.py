"""Spans of runs while they go on. Those that a journal is turned into are the measure: both ways must agree.

`test_tracers.py` has the nightly tests beside MLflow's and Phoenix's own spans.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from dspy_rlm import RLM, tracing
from dspy_rlm.errors import RLMError
from dspy_rlm.journal import load
from dspy_rlm.journal.export import to_spans
from dspy_rlm.testing import Action, asks_for, fields, route, rules, scripted

LEAF = scripted(Action("", "SUBMIT(q + sub_llm('deep'))"), Action("", "SUBMIT(q + 'b')"))
SUB = route(
    (asks_for("code"), LEAF),
    (asks_for("n"), fields(lambda _: {"n": 4})),
    otherwise=rules([], default="yes"),
)
MOVES = (
    "print(sub_llm('x'), predict('q -> n: int', q='?').n, find('k'), afind('z'))",
    "print(sub_llm_batched(['a', 'b', 'c']), sub_rlm_batched('q -> leaf', [{'q': '1'}, {'q': '2'}]))\n1/0",
    "SUBMIT(q)",
)


class Spans:
    """The exporter of a test, with the provider that writes to it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def ways(self) -> list[str]:
        """The names of all spans, each with those above it; of sub-runs at the same time in any order."""
        return sorted(ways(self.exporter.get_finished_spans()))

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans with this name."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


def ways(spans: Any) -> list[str]:
    by_id = {span.context.span_id: span for span in spans}

    def way(span: ReadableSpan) -> str:
        known = span.parent and by_id.get(span.parent.span_id)
        return (f"{way(known)} > " if known else "") + span.name

    return [way(span) for span in spans]


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Spans of all runs of a test."""
    spans = Spans()
    tracing.instrument(spans.provider)
    yield spans
    tracing.uninstrument()


def find(key: str) -> str:
    """Finds a value, in a span of its own."""
    with trace.get_tracer("mine", tracer_provider=find.provider).start_as_current_span("mine"):  # type: ignore[attr-defined]
        return key


async def afind(key: str) -> str:
    """Finds a value on the event loop."""
    await asyncio.sleep(0)
    return key


@pytest.mark.sampled(1)
@pytest.mark.parametrize("way", ["sync", "async"])
def test_live_spans_are_those_of_the_journal(play, spans, tmp_path, way):
    """Batches, sub-runs side by side and tools on the event loop have the parents that the journal names."""
    find.provider = spans.provider  # type: ignore[attr-defined]
    rlm, _ = play("q -> a", *MOVES, sub=SUB, tools=[find, afind], journal=tmp_path / "run.jsonl")
    prediction = rlm(q="5") if way == "sync" else asyncio.run(rlm.acall(q="5"))
    exporter = InMemorySpanExporter()
    to_spans(load(prediction.run.journal), exporter)

    below_tool = "RLM > iteration 1 > python > find > mine"
    assert spans.ways() == sorted([*ways(exporter.get_finished_spans()), below_tool])
    assert len({span.context.trace_id for span in spans.exporter.get_finished_spans()}) == 1

    (run,) = (span for span in spans.named("RLM") if span.parent is None)
    assert run.attributes["openinference.span.kind"] == "AGENT"
    assert run.attributes["output.value"] == '{"a": "5"}'
    assert run.attributes["dspy_rlm.status"] == "submitted"
    (call,) = spans.named("predict openai/sub")
    assert (
        call.attributes["llm.token_count.prompt"]
        == call.attributes["gen_ai.usage.input_tokens"]
        > 0
    )
    assert call.attributes["llm.model_name"] == "openai/sub"
    assert call.attributes["llm.input_messages.0.message.role"] == "system"
    assert "4" in call.attributes["llm.output_messages.0.message.content"]
    failed = [span.status.description for span in spans.named("python") if not span.status.is_ok]
    assert failed == ["ZeroDivisionError: division by zero"]


def test_a_run_is_below_the_current_span_and_ends_with_its_error(play, spans):
    """A caller's span is the parent, and a run that fails is an error in all that was open."""
    tracer = trace.get_tracer("caller", tracer_provider=spans.provider)
    rlm, server = play("q -> a", "1", max_iterations=2)
    server.fail("root", 401)

    with tracer.start_as_current_span("request"), pytest.raises(RLMError):
        rlm(q="5")

    assert spans.ways() == [
        "request",
        "request > RLM",
        "request > RLM > iteration 1",
        "request > RLM > iteration 1 > action openai/root",
    ]
    (run,) = spans.named("RLM")
    assert not run.status.is_ok
    assert run.attributes["dspy_rlm.status"] == "failed"


def test_an_error_of_the_tracer_ends_no_run(play, caplog):
    """A provider that fails is logged, and the run goes on."""

    class Broken(TracerProvider):
        def get_tracer(self, *_args: Any, **_options: Any) -> Any:
            return self

        def start_span(self, *_args: Any, **_options: Any) -> Any:
            raise RuntimeError("no span today")

    tracing.instrument(Broken(shutdown_on_exit=False))
    try:
        rlm, _ = play("q -> a", "SUBMIT(q)")
        assert rlm(q="5").a == "5"
    finally:
        tracing.uninstrument()
    assert "no span today" in caplog.text


def test_a_run_that_is_not_sampled_has_no_spans(play):
    """The decision of the sampler holds for the whole run."""
    spans = Spans()
    spans.provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    spans.provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
    tracing.instrument(spans.provider)
    try:
        rlm, _ = play("q -> a", "SUBMIT(q)")
        assert rlm(q="5").a == "5"
    finally:
        tracing.uninstrument()
    assert spans.exporter.get_finished_spans() == ()


def test_secrets_and_contents_stay_out(play, spans, monkeypatch):
    """A secret of the environment is hidden in all spans; with `content=False` there is no content at all."""
    monkeypatch.setenv("SERVICE_TOKEN", "tok-9f8e7d6c5b4a3210")
    code = "print('tok-9f8e7d6c5b4a3210')\nraise ValueError('tok-9f8e7d6c5b4a3210')"
    rlm, _ = play("q -> a", code, "SUBMIT(q)")
    rlm(q="5")
    dumped = "".join(span.to_json() for span in spans.exporter.get_finished_spans())
    assert "ValueError: [secret]" in dumped
    assert "9f8e7d6c5b4a3210" not in dumped

    spans.exporter.clear()
    tracing.instrument(spans.provider, content=False)
    rlm, _ = play("q -> a", code, "SUBMIT(q)")
    rlm(q="5")
    dumped = "".join(span.to_json() for span in spans.exporter.get_finished_spans())
    assert '"ValueError"' in dumped
    assert not any(text in dumped for text in (".value", "messages", "SUBMIT(q)"))


def test_beside_another_instrumentation_only_what_it_lacks_is_added(play, spans):
    """Told that modules and LM calls are traced, ours are iterations, cells and functions, with the figures of their calls."""
    tracing.instrument(spans.provider, dspy_is_traced=True)
    rlm, _ = play("q -> a", "print(sub_llm_batched(['a', 'b']))", "SUBMIT(q)", sub=SUB)
    tracer = trace.get_tracer("other", tracer_provider=spans.provider)
    with tracer.start_as_current_span("RLM.forward"):
        rlm(q="5")

    assert spans.ways() == [
        "RLM.forward",
        "RLM.forward > iteration 1",
        "RLM.forward > iteration 1 > python",
        "RLM.forward > iteration 1 > python > sub_llm_batched",
        "RLM.forward > iteration 2",
        "RLM.forward > iteration 2 > python",
    ]
    (batch,) = spans.named("sub_llm_batched")
    assert batch.attributes["dspy_rlm.output_tokens"] == 2
    (run,) = spans.named("RLM.forward")
    assert run.attributes["dspy_rlm.status"] == "submitted"


def test_without_a_span_of_the_other_instrumentation_the_run_is_one_trace(play, spans):
    """If `forward` is called directly, no instrumentation of DSPy has a span of the run, and ours has one."""
    tracing.instrument(spans.provider, dspy_is_traced=True)
    rlm, _ = play("q -> a", "1", "SUBMIT(q)")
    rlm.forward(q="5")

    assert spans.ways() == [
        "RLM",
        "RLM > iteration 1",
        "RLM > iteration 1 > python",
        "RLM > iteration 2",
        "RLM > iteration 2 > python",
    ]
    assert spans.named("RLM")[0].attributes["output.value"] == '{"a": "5"}'


def test_suppressed_instrumentation_has_no_spans(play, spans):
    """Code that turns instrumentation off for a block turns ours off too."""
    rlm, _ = play("q -> a", "SUBMIT(q)")
    key = otel_context._SUPPRESS_INSTRUMENTATION_KEY
    token = otel_context.attach(otel_context.set_value(key, True))
    try:
        rlm(q="5")
    finally:
        otel_context.detach(token)

    assert spans.exporter.get_finished_spans() == ()


def test_runs_of_a_tool_are_below_its_call(play, spans, kept):
    """An RLM that a tool starts, in a thread of its own pool too, is a part of the same trace."""

    def inner(text: str) -> str:
        """Answers by a run of its own, in a thread."""
        task = dspy.Parallel(num_threads=2, disable_progress_bar=True)
        rlm = RLM("q -> leaf", pool=kept)
        with dspy.context(lm=server.lm("sub")):
            return str([one.leaf for one in task([(rlm, dspy.Example(q=text).with_inputs("q"))])])

    sub = route((asks_for("code"), scripted(Action("", "SUBMIT(q)"))), otherwise=rules([], "yes"))
    rlm, server = play("q -> a", "print(inner('7'))", "SUBMIT(q)", sub=sub, tools=[inner])
    rlm(q="5")

    above = "RLM > iteration 1 > python"
    starts = [way for way in spans.ways() if way.endswith(" > RLM")]
    assert len(starts) == 1
    assert starts[0].startswith(above)
    assert len({span.context.trace_id for span in spans.exporter.get_finished_spans()}) == 1


def test_after_uninstrument_there_are_no_spans(play, spans):
    """A run that begins later is not traced; wrong settings are refused."""
    tracing.uninstrument()
    rlm, _ = play("q -> a", "SUBMIT(q)")
    rlm(q="5")

    assert spans.exporter.get_finished_spans() == ()
    with pytest.raises(ValueError, match="max_chars must be positive"):
        tracing.instrument(spans.provider, max_chars=0)
