"""The records of a run, of its steps and of its cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from dspy_rlm.journal.records.calls import (
    CallRecord,
    ToolRecord,
)
from dspy_rlm.journal.records.references import (
    Reader,
    Text,
    ValueRecord,
    read_refs,
)

CellOutcome: TypeAlias = Literal["completed", "submitted", "failed"]


@dataclasses.dataclass(frozen=True)
class CellRecord:
    """One cell, with its output as the sandbox returned it."""

    seq: int
    """The number of its event."""

    code: Text
    """The code that ran."""

    outcome: CellOutcome
    """`completed`, `submitted` or `failed`."""

    output: Text
    """The printed output, up to the sandbox's own limit: also what the root LM did not see."""

    error_type: str = ""
    """The name of the exception class of a failed cell; else empty."""

    message: Text = ""
    """The text of that exception."""

    traceback: Text = ""
    """Its traceback, with the cell's own lines only."""

    seconds: float = 0.0
    """Wall time."""

    started_at: float = 0.0
    """Seconds since the epoch."""

    state_lost: bool = False
    """True if the definitions of earlier cells were lost before it ended."""


@dataclasses.dataclass(frozen=True)
class CheckpointRecord:
    """A saved state of the REPL."""

    path: str
    """The name of the file in the folder beside the journal."""

    bytes: int
    """The size of the file."""

    seconds: float
    """The time that saving took."""


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """One turn of a run."""

    number: int
    """1 for the first."""

    reasoning: Text
    """The reasoning of the root LM."""

    code: Text
    """The code that it wrote."""

    shown: Text
    """The part of the output that the root LM saw, with the notes of the harness; empty in a step that is not complete."""

    cell: CellRecord | None
    """None: no cell was run, or it was running when the journal ends."""

    calls: tuple[CallRecord, ...] = ()
    """The calls of the root LM for this turn, then those of its code, in the order in which they began."""

    tools: tuple[ToolRecord, ...] = ()
    """The calls of tools and of the REPL's functions, in the order in which they began."""

    sub_runs: tuple[RunRecord, ...] = ()
    """The runs that the code of the cell started."""

    checkpoint: CheckpointRecord | None = None
    """The state after the step, if it was saved and is still there."""

    started_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def sub_calls(self) -> tuple[CallRecord, ...]:
        """The calls that the code of the cell made, without those of sub-runs."""
        return tuple(call for call in self.calls if call.is_sub_call)

    @property
    def root_calls(self) -> tuple[CallRecord, ...]:
        """The calls of the LM that writes the code."""
        return tuple(call for call in self.calls if not call.is_sub_call)


@dataclasses.dataclass(frozen=True)
class FieldRecord:
    """A field of a signature."""

    name: str
    """Its name."""

    annotation: str
    """The type, as text."""

    description: str = ""
    """Its description; empty if it has none."""


@dataclasses.dataclass(frozen=True)
class SignatureRecord:
    """The signature of a run."""

    instructions: str
    """The instructions."""

    inputs: tuple[FieldRecord, ...]
    """The inputs, in their order."""

    outputs: tuple[FieldRecord, ...]
    """The outputs, in their order."""


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run, as far as it is in its journal."""

    format: str
    """The name of the format."""

    version: int
    """The version of the format."""

    path: str
    """The file."""

    run_id: str
    """Unique."""

    parent_run: str | None
    """The `run_id` of the run above it; None for the root."""

    parent_call: str | None
    """The `call_id` of the `sub_rlm` or `sub_rlm_batched` that started it."""

    depth: int
    """0 for the root run."""

    started_at: datetime
    """The time at which it began."""

    signature: SignatureRecord
    """Its signature, with types as text."""

    config: Mapping[str, Any]
    """The budget, the style, the names of the models and tools, the versions."""

    inputs: Mapping[str, ValueRecord]
    """The inputs by name; see `value`."""

    steps: tuple[StepRecord, ...]
    """The complete steps."""

    unfinished: StepRecord | None = None
    """The step that was under way when the journal ends: its calls that were answered are in it."""

    began_with: CheckpointRecord | None = None
    """The state that the REPL began with, if earlier calls of a session had left some of it."""

    setup: tuple[CallRecord, ...] = ()
    """The calls of the setup code of a sub-run, before its first step."""

    extraction: tuple[CallRecord, ...] = ()
    """The calls for the extraction of the outputs."""

    ended: Mapping[str, Any] | None = None
    """The report, as `RunReport.dump` returns it, without the trajectory. None: the run crashed, or goes on."""

    outputs: Mapping[str, ValueRecord] | None = None
    """None: it has no outputs."""

    notes: tuple[str, ...] = ()
    """The parts that the journal lacks, as far as it is known: lines that could not be read or written."""

    events: int = 0
    """The number of the next event of the journal."""

    resumes: int = 0
    """The number of times that it was resumed."""

    reader: Reader | None = dataclasses.field(default=None, repr=False, compare=False)
    """Reads long texts and values from the place beside the journal."""

    def value(self, value: Any) -> Any:
        """Returns what a reference or a `ValueRecord` stands for.

        A value in JSON comes back as plain data, and arrays and tables as NumPy's and Polars' or pandas' own, if these are
        installed. A file or a directory is not opened: its path comes back.

        Raises:
            MissingValueError: It was not stored, or is damaged.
        """
        if isinstance(value, ValueRecord) and self.reader is not None:
            return self.reader.restore(value)
        return read_refs(value)

    @property
    def all_steps(self) -> tuple[StepRecord, ...]:
        """The complete steps, and the unfinished one if there is one."""
        return (*self.steps, self.unfinished) if self.unfinished else self.steps

    def walk(self) -> Iterator[RunRecord]:
        """Yields the run itself and all sub-runs, each before those below it."""
        yield self
        for step in self.all_steps:
            for sub_run in step.sub_runs:
                yield from sub_run.walk()

    def calls(self) -> Iterator[CallRecord]:
        """Yields all LM calls of the run and its sub-runs."""
        for run in self.walk():
            for step in run.all_steps:
                yield from step.calls
            yield from run.setup
            yield from run.extraction
