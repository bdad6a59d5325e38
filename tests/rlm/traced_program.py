"""Runs an RLM under a tracer and prints the spans as JSON: `python traced_program.py mlflow|phoenix|none FOLDER [ours]`.

With `ours`, `dspy_rlm.tracing` is on too.

A program of its own, because a tracer patches DSPy for the whole process.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import dspy

Span = dict[str, Any]


def start_mlflow(folder: str) -> Any:
    """Starts MLflow's autolog with its store in the folder; returns the function that reads the spans."""
    import mlflow
    import mlflow.dspy

    mlflow.set_tracking_uri(f"sqlite:///{Path(folder, 'mlflow.db')}")
    mlflow.dspy.autolog()

    def spans() -> list[Span]:
        mlflow.flush_trace_async_logging()
        (trace,) = mlflow.search_traces(return_type="list")
        return [
            {
                "name": span.name,
                "status": str(span.status.status_code),
                "output": span.outputs,
                "id": span.span_id,
                "parent": span.parent_id,
                "trace": span.trace_id,
            }
            for span in trace.data.spans
        ]

    return spans, None


def start_phoenix(_folder: str) -> Any:
    """Starts Phoenix's instrumentation with an exporter in memory; returns the function that reads the spans."""
    from openinference.instrumentation.dspy import DSPyInstrumentor

    spans, provider = start_nothing(_folder)
    DSPyInstrumentor().instrument(tracer_provider=provider)
    return spans, provider


def start_nothing(_folder: str) -> Any:
    """Starts an exporter in memory; returns the function that reads the spans, and the provider."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def spans() -> list[Span]:
        return [
            {
                "name": span.name,
                "status": span.status.status_code.name,
                "output": (span.attributes or {}).get("output.value"),
                "id": span.context.span_id,
                "parent": span.parent.span_id if span.parent else None,
                "trace": span.context.trace_id,
            }
            for span in exporter.get_finished_spans()
        ]

    return spans, provider


def main() -> None:
    """Runs the program."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    starts = {"mlflow": start_mlflow, "phoenix": start_phoenix, "none": start_nothing}
    spans, provider = starts[sys.argv[1]](sys.argv[2])
    # Only now: Phoenix's instrumentation fails if there is a subclass of `dspy.Predict` outside DSPy.
    from dspy_rlm import RLM, tracing
    from dspy_rlm.testing import Action, PolicyServer, asks_for, fields, route, rules, scripted

    sub = route(
        (asks_for("n"), fields(lambda _: {"n": 4})),
        (asks_for("code"), scripted(Action("r", "SUBMIT(q + sub_llm('deep'))"))),
        otherwise=rules([], default="yes"),
    )
    moves = [
        Action("r", "print(sub_llm('x'), predict('q -> n: int', q='?').n, find('k'))"),
        Action("r", "print(sub_llm_batched(['a', 'b', 'c']), sub_rlm('q -> leaf', q='l').leaf)"),
        Action("r", "SUBMIT(q, 2.5)"),
    ]

    def find(key: str) -> str:
        """Finds a value."""
        return f"value of {key}"

    if "ours" in sys.argv:
        tracing.instrument(provider)
    with (
        PolicyServer({"root": scripted(*moves), "sub": sub}) as server,
        dspy.context(lm=server.lm("root"), adapter=dspy.ChatAdapter()),
    ):
        rlm = RLM("q -> a, score: float", sub_lm=server.lm("sub"), tools=[find])
        prediction = rlm(q="5")
    sys.stdout.write(json.dumps({"answer": prediction.a, "spans": spans()}, default=str))


if __name__ == "__main__":
    main()
