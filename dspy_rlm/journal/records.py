"""The records of a journal: one run, its steps, its cells, its calls, as plain data.

Long texts and large values are references into the folder beside the journal. They are read only when they are asked
for, so a journal of any size loads at once: `RunRecord.value` returns what a reference stands for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

# Kinds of calls that are a run's own turns: they have no function of the REPL above them.
OWN_KINDS = frozenset({"action", "extract", "adapter"})


class Reader(Protocol):
    """The store of the texts and values beside a journal."""

    def text(self, sha256: str) -> str:
        """Returns a text; raises `MissingValueError` if it is not there or damaged."""

    def data(self, sha256: str) -> bytes:
        """Returns the bytes of a value; raises `MissingValueError` if it is not there or damaged."""

    def restore(self, record: ValueRecord) -> Any:
        """Returns the value of a record; raises `MissingValueError` if it is not there or damaged."""


@dataclasses.dataclass(frozen=True)
class Ref:
    """A reference to a long text."""

    sha256: str
    """The digest of the text in UTF-8."""

    chars: int

    reader: Reader = dataclasses.field(repr=False, compare=False)

    def read(self) -> str:
        """Returns the text.

        Raises:
            MissingValueError: It is not beside the journal, or damaged.
        """
        return self.reader.text(self.sha256)


Text: TypeAlias = "str | Ref"
"""A text, or the reference to a long one."""


def read_text(text: Text) -> str:
    """Returns a text as a `str`."""
    return text.read() if isinstance(text, Ref) else text


def read_refs(value: Any) -> Any:
    """Returns JSON data with its references replaced by their texts."""
    if isinstance(value, Ref):
        return value.read()
    if isinstance(value, Mapping):
        return {name: read_refs(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [read_refs(part) for part in value]
    return value


class Prompt(Protocol):
    """The prompt of a call."""

    def messages(self) -> list[dict[str, Any]]:
        """Returns the messages, as an OpenAI request has them. A plain text is one message of the user.

        Raises:
            MissingValueError: A part of it is not beside the journal, or damaged.
        """

    def text(self) -> str:
        """Returns the texts of the messages, each after a line with its role."""


@dataclasses.dataclass(frozen=True)
class ErrorRecord:
    """An exception."""

    type: str
    """The name of its class."""

    message: Text

    status: int | None = None
    """The HTTP status, if a server has answered with one."""


@dataclasses.dataclass(frozen=True)
class AttemptRecord:
    """One request of a call, as it is booked on the ledger."""

    started_at: float
    """Seconds since the epoch."""

    seconds: float
    error: str = ""
    """The class and the text of the error; empty if there was a reply."""

    cached: bool = False
    """True if DSPy's cache replied."""

    input_tokens: int | None = None
    """None: not reported, or the reply was not waited for. The same holds for the next two."""

    output_tokens: int | None = None
    cost: float | None = None
    """US dollars."""

    chars_in: int = 0
    chars_out: int = 0
    reply_bytes: int = 0
    """Bytes of the reply in UTF-8."""

    discounted: bool = False
    """True if a part of the prompt was charged at a lower price, as with a provider's cache."""

    replayed: tuple[float, float] | None = None
    """The tokens and the dollars that a cached reply had taken when it was computed; None if they do not count."""

    was_cut: bool = False
    """True if the reply ended at its limit of tokens."""

    refusal: Text = ""
    """The words of a refusal, if they are beside the text of the reply."""

    is_final: bool = True
    """False if the reply was cut by the budget, and the call sent again."""

    reserved: tuple[float, float] | None = None
    """The tokens and the dollars that were reserved for it; zeros without a limit that needs them."""


@dataclasses.dataclass(frozen=True)
class CallRecord:
    """One LM call."""

    seq: int
    """The number of the event of its start."""

    call_id: str
    run_id: str
    iteration: int | None
    """The number of the step; None for an extraction."""

    parent_call: str | None
    """The `call_id` of the REPL's function that made it; None for the run's own turns."""

    kind: str
    """`action`, `extract` or `adapter` for the run's own turns, else the name of the REPL's function."""

    model: str
    depth: int
    digest: str
    """Equal for calls of the same kind, model, prompt and options."""

    prompt: Prompt
    options: Mapping[str, Any]
    """The options of the LM and of the call, without keys and addresses."""

    attempts: tuple[AttemptRecord, ...] = ()
    outputs: tuple[Any, ...] | None = None
    """The outputs as DSPy returns them, each a text or a dict; long texts are references. None: there is no reply."""

    finish_reason: str = ""
    error: ErrorRecord | None = None
    """The error that the call ended with; None if it was answered, or under way when the journal ends."""

    started_at: float = 0.0
    lost: tuple[float, float] | None = None
    """The tokens and the dollars that were reserved for a request of which there is no end: the process was killed, or did
    not wait for it. None if there is no such request."""

    @property
    def answered(self) -> bool:
        """True if there is a reply."""
        return self.outputs is not None

    @property
    def reply(self) -> list[Any]:
        """The outputs with all texts read.

        Raises:
            ValueError: There is no reply.
            MissingValueError: A text is not beside the journal, or damaged.
        """
        if self.outputs is None:
            raise ValueError(f"The call {self.call_id} has no reply.")
        replies: list[Any] = read_refs(self.outputs)
        return replies

    @property
    def was_cut(self) -> bool:
        """True if the reply ended at its limit of tokens."""
        return bool(self.attempts) and self.attempts[-1].was_cut

    @property
    def cached(self) -> bool:
        """True if DSPy's cache replied."""
        return bool(self.attempts) and self.attempts[-1].cached

    @property
    def is_sub_call(self) -> bool:
        """True for a call that code caused; false for the run's own turns."""
        return self.parent_call is not None

    @property
    def input_tokens(self) -> int | None:
        """The tokens of the prompts of all attempts; None if a part is unknown."""
        tokens: int | None = _total(attempt.input_tokens for attempt in self.attempts)
        return tokens

    @property
    def output_tokens(self) -> int | None:
        """The tokens of the replies of all attempts; None if a part is unknown."""
        tokens: int | None = _total(attempt.output_tokens for attempt in self.attempts)
        return tokens

    @property
    def cost(self) -> float | None:
        """US dollars of all attempts; None if a part is unknown."""
        cost: float | None = _total(attempt.cost for attempt in self.attempts)
        return cost


def _total(parts: Iterator[Any]) -> Any:
    known = list(parts)
    return None if None in known else sum(known)


ValueKind: TypeAlias = Literal[
    "text", "json", "bytes", "npy", "parquet", "file", "directory", "not_stored"
]


@dataclasses.dataclass(frozen=True)
class ValueRecord:
    """A value of an input, an output, an argument or a result."""

    kind: ValueKind
    """The form in which it is stored. A file and a directory are named by their path; `not_stored` has only a digest, if any."""

    annotation: str = ""
    """Its declared type, as text."""

    type: str = ""
    """Its class, with its module."""

    digest: str = ""
    """The SHA-256 of the stored form; of a file, of its content. Empty if there is none."""

    size: int = 0
    """Characters of a text, else bytes."""

    data: Any = None
    """A short text or JSON value itself, or the reference to a long text; else None."""

    path: str = ""
    """The path of a file or of a directory."""

    modified_at: float | None = None
    """The time of the last change of the file, in seconds since the epoch."""

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The other arguments of its class: the encoding of a `TextFile`, the pattern of a `Directory`."""

    note: str = ""
    """The reason for which it is not stored, or what is only approximate about it."""


@dataclasses.dataclass(frozen=True)
class ToolRecord:
    """One call of a user's tool, or of a function of the REPL."""

    seq: int
    call_id: str
    run_id: str
    iteration: int | None
    name: str
    is_tool: bool
    """True for a tool of the user; false for a function of the REPL, whose LM calls are recorded instead of its
    arguments and its result."""

    arguments: ValueRecord | None = None
    """The positional arguments and those by name, as JSON: `[[...], {...}]`."""

    result: ValueRecord | None = None
    """None: it failed, was under way when the journal ends, or is a function of the REPL."""

    error: ErrorRecord | None = None
    started_at: float = 0.0
    seconds: float | None = None
    """None: it was under way when the journal ends."""


CellOutcome: TypeAlias = Literal["completed", "submitted", "failed"]


@dataclasses.dataclass(frozen=True)
class CellRecord:
    """One cell, with its output as the sandbox returned it."""

    seq: int
    code: Text
    outcome: CellOutcome
    output: Text
    """The printed output, up to the sandbox's own limit: also what the root LM did not see."""

    error_type: str = ""
    message: Text = ""
    traceback: Text = ""
    seconds: float = 0.0
    started_at: float = 0.0
    state_lost: bool = False
    """True if the definitions of earlier cells were lost before it ended."""


@dataclasses.dataclass(frozen=True)
class CheckpointRecord:
    """A saved state of the REPL."""

    path: str
    """The name of the file in the folder beside the journal."""

    bytes: int
    seconds: float
    """The time that saving took."""


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """One turn of a run."""

    number: int
    """1 for the first."""

    reasoning: Text
    code: Text
    shown: Text
    """The part of the output that the root LM saw, with the notes of the harness; empty in a step that is not complete."""

    cell: CellRecord | None
    """None: no cell was run, or it was running when the journal ends."""

    calls: tuple[CallRecord, ...] = ()
    """The calls of the root LM for this turn, then those of its code, in the order in which they began."""

    tools: tuple[ToolRecord, ...] = ()
    """The calls of tools and of the REPL's functions, in the order in which they began."""

    sub_runs: tuple[RunRecord, ...] = ()
    checkpoint: CheckpointRecord | None = None
    """The state after the step, if it was saved and is still there."""

    started_at: float = 0.0

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
    annotation: str
    """The type, as text."""

    description: str = ""


@dataclasses.dataclass(frozen=True)
class SignatureRecord:
    """The signature of a run."""

    instructions: str
    inputs: tuple[FieldRecord, ...]
    outputs: tuple[FieldRecord, ...]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run, as far as it is in its journal."""

    format: str
    version: int
    path: str
    """The file."""

    run_id: str
    parent_run: str | None
    parent_call: str | None
    """The `call_id` of the `sub_rlm` or `sub_rlm_batched` that started it."""

    depth: int
    started_at: datetime
    signature: SignatureRecord
    config: Mapping[str, Any]
    """The budget, the style, the names of the models and tools, the versions."""

    inputs: Mapping[str, ValueRecord]
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
