"""A journal in the formats of other tools: ATIF, the trajectories of Harbor, and OpenTelemetry spans.

    record = dspy_rlm.journal.load("run.jsonl")
    write_atif(record, "trajectory.json")
    to_spans(record, OTLPSpanExporter())

docs/tracing.md describes both.
"""

from dspy_rlm.journal.export.atif import to_atif, write_atif
from dspy_rlm.journal.export.spans import to_spans

__all__ = ["to_atif", "to_spans", "write_atif"]
