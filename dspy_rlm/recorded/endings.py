"""The end of a recorded run, as the prediction that it returned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dspy

from dspy_rlm.dspy_bridge.prediction import RLMPrediction
from dspy_rlm.journal.records import RunRecord, read_text
from dspy_rlm.journal.stored_values import typed
from dspy_rlm.reports.report import Call, RunReport, Step, Usage
from dspy_rlm.runs.extraction import EXTRACTED, OUT_OF_BUDGET
from dspy_rlm.signatures.fields import has_type


def has_outputs(record: RunRecord) -> bool:
    """Returns whether the run ended with outputs, so that nothing is left to be done."""
    return record.ended is not None and record.outputs is not None


def prediction_of(record: RunRecord, signature: type[dspy.Signature]) -> dspy.Prediction:
    """Returns the prediction of a run that ended with outputs.

    Raises:
        MissingValueError: An output was not stored.
    """
    report = report_of(record)
    outputs = {}
    for name, value in (record.outputs or {}).items():
        field = signature.output_fields[name]
        data = record.value(value)
        is_json = value.kind == "json" and has_type(field)
        outputs[name] = typed(data, field.annotation) if is_json else data
    reasoning = EXTRACTED.get(report.stopped_by, OUT_OF_BUDGET)
    if report.status != "extracted":
        reasoning = report.steps[-1].reasoning if report.steps else ""
    return RLMPrediction.of_run(outputs, reasoning, report)


def report_of(record: RunRecord) -> RunReport:
    """Returns the report of a run that has ended. What a newer version has added is left out."""
    ended = dict(record.ended or {})
    started = ended.get("started_at")
    ended |= {
        "steps": tuple(
            Step(read_text(s.reasoning), read_text(s.code), read_text(s.shown))
            for s in record.steps
        ),
        "started_at": datetime.fromisoformat(started) if started else record.started_at,
        "usage": tuple(_made(Usage, one) for one in ended.get("usage", ())),
        "sub_calls": tuple(_made(Call, one) for one in ended.get("sub_calls", ())),
        "under_way": tuple(_made(Call, one) for one in ended.get("under_way", ())),
    }
    report: RunReport = _made(RunReport, ended)
    return report


def _made(cls: Any, fields: Mapping[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in fields.items() if name in names})
