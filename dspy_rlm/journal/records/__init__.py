"""The records of a journal: one run, its steps, its cells, its calls, as plain data.

Long texts and large values are references into the folder beside the journal. They are read only when they are asked
for, so a journal of any size loads at once: `RunRecord.value` returns the text or the value of a reference.
"""

from dspy_rlm.journal.records.calls import (
    AttemptRecord,
    CallRecord,
    ErrorRecord,
    ToolRecord,
)
from dspy_rlm.journal.records.references import (
    Prompt,
    Reader,
    Ref,
    Text,
    ValueKind,
    ValueRecord,
    read_refs,
    read_text,
)
from dspy_rlm.journal.records.runs import (
    CellOutcome,
    CellRecord,
    CheckpointRecord,
    FieldRecord,
    RunRecord,
    SignatureRecord,
    StepRecord,
)

__all__ = [
    "AttemptRecord",
    "CallRecord",
    "CellOutcome",
    "CellRecord",
    "CheckpointRecord",
    "ErrorRecord",
    "FieldRecord",
    "Prompt",
    "Reader",
    "Ref",
    "RunRecord",
    "SignatureRecord",
    "StepRecord",
    "Text",
    "ToolRecord",
    "ValueKind",
    "ValueRecord",
    "read_refs",
    "read_text",
]
