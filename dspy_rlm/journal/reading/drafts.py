"""Runs, steps and calls while the events of a journal are put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dspy_rlm.journal.records import (
    AttemptRecord,
    CallRecord,
    CellRecord,
    CheckpointRecord,
    ErrorRecord,
    SignatureRecord,
    Text,
    ToolRecord,
    ValueRecord,
)


@dataclasses.dataclass
class DraftCall:
    """An LM call, as far as it was read."""

    call_id: str
    fields: dict[str, Any]
    """Those of its first event, by the names of `CallRecord`."""

    attempts: list[AttemptRecord] = dataclasses.field(default_factory=list)
    outputs: tuple[Any, ...] | None = None
    finish_reason: str = ""
    error: ErrorRecord | None = None
    sent: tuple[float, float] | None = None

    def record(self) -> CallRecord:
        """Returns its record."""
        return CallRecord(
            **self.fields,
            call_id=self.call_id,
            attempts=tuple(self.attempts),
            outputs=self.outputs,
            finish_reason=self.finish_reason,
            error=self.error,
            lost=self.sent,
        )


@dataclasses.dataclass
class DraftStep:
    """A step, as far as it was read."""

    number: int
    started_at: float
    reasoning: Text = ""
    code: Text = ""
    shown: Text = ""
    done: bool = False
    cell: CellRecord | None = None
    checkpoint: CheckpointRecord | None = None
    calls: list[DraftCall] = dataclasses.field(default_factory=list)
    tools: list[ToolRecord] = dataclasses.field(default_factory=list)
    runs: list[DraftRun] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class DraftRun:
    """A run, as far as it was read."""

    run_id: str
    started_at: float = 0.0
    depth: int = 0
    parent_run: str | None = None
    parent_call: str | None = None
    signature: SignatureRecord = dataclasses.field(
        default_factory=lambda: SignatureRecord("", (), ())
    )
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inputs: dict[str, ValueRecord] = dataclasses.field(default_factory=dict)
    steps: dict[int, DraftStep] = dataclasses.field(default_factory=dict)
    began_with: CheckpointRecord | None = None
    setup: list[DraftCall] = dataclasses.field(default_factory=list)
    extraction: list[DraftCall] = dataclasses.field(default_factory=list)
    ended: Mapping[str, Any] | None = None
    outputs: dict[str, ValueRecord] | None = None
    resumes: int = 0
    is_known: bool = False

    def step(self, number: int, time: float = 0.0) -> DraftStep:
        """Returns the step with a number, new if there was none."""
        if number not in self.steps:
            self.steps[number] = DraftStep(number, time)
        return self.steps[number]


def call_records(calls: list[DraftCall]) -> tuple[CallRecord, ...]:
    """Returns the records of some calls."""
    return tuple(call.record() for call in calls)
