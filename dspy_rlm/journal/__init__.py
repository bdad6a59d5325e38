"""The journal: a run as a file that can be looked at, resumed and repeated.

    rlm = RLM("logs -> answer", journal="run.jsonl")
    prediction = rlm(logs=logs)

    record = dspy_rlm.journal.load(prediction.run.journal)
    for step in record.steps:
        print(step.number, step.cell.outcome, len(step.sub_calls))

docs/journal.md describes what is in it. Importing this package imports no DSPy.
"""

from dspy_rlm.journal.errors import JournalError, MissingValueError
from dspy_rlm.journal.reading.loading import load
from dspy_rlm.journal.records import (
    AttemptRecord,
    CallRecord,
    CellRecord,
    CheckpointRecord,
    ErrorRecord,
    FieldRecord,
    Prompt,
    Ref,
    RunRecord,
    SignatureRecord,
    StepRecord,
    Text,
    ToolRecord,
    ValueRecord,
)

__all__ = [
    "AttemptRecord",
    "CallRecord",
    "CellRecord",
    "CheckpointRecord",
    "ErrorRecord",
    "FieldRecord",
    "JournalError",
    "MissingValueError",
    "Prompt",
    "Ref",
    "RunRecord",
    "SignatureRecord",
    "StepRecord",
    "Text",
    "ToolRecord",
    "ValueRecord",
    "load",
]
