"""Spans of runs while they go on, for OpenTelemetry and MLflow.

    dspy_rlm.tracing.instrument()

A run, its iterations, its cells, the calls of tools and of LMs, and sub-runs become spans, with the attributes of OpenInference and of
OpenTelemetry's conventions for generative AI. docs/tracing.md describes them. `dspy_rlm.journal.export.to_spans` makes the same spans of a
journal.
"""

from dspy_rlm.tracing.instrumenting import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]
