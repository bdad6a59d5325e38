"""The document of a page, as the types of its JSON. `web/document/format.ts` has the same with what each field means.

A test compares the two.
"""

from __future__ import annotations

from typing import TypeAlias, TypedDict

FORMAT = "dspy-rlm.view"

# Incremented when an older page could no longer show a document.
VERSION = 1


class RemovedText(TypedDict):
    """A text that was removed: only its size is known."""

    chars: int
    lines: int


Text: TypeAlias = str | int | RemovedText
TextEntry: TypeAlias = list[int]


class CoveredText(TypedDict):
    """One text of an input, and the ranges of it that LMs were shown."""

    path: str
    chars: int
    seen: list[int]
    text: Text | None


class Coverage(TypedDict):
    """The part of an input that LMs were shown."""

    chars: int
    seen: int
    fraction: float
    read: float | None
    exact: bool
    texts: list[CoveredText]


class Input(TypedDict):
    """An input of a run."""

    name: str
    annotation: str
    description: Text
    kind: str
    size: int
    path: Text
    note: Text
    preview: Text
    coverage: Coverage | None


class LineageCall(TypedDict):
    """A sub-call that an output came from."""

    step: int
    function: str
    row: int | None
    verbatim: bool
    call: int | None


class InputRange(TypedDict):
    """A range of a text of an input."""

    input: str
    path: str
    start: int
    end: int


class Lineage(TypedDict):
    """The origins of an output."""

    steps: list[int]
    sub_calls: list[LineageCall]
    ranges: list[InputRange]
    exact: bool


class Output(TypedDict):
    """An output of a run."""

    name: str
    annotation: str
    kind: str
    size: int
    value: Text
    note: Text
    missing: bool
    lineage: Lineage | None


class CellError(TypedDict):
    """The error that a cell failed with."""

    type: str
    message: Text
    traceback: Text
    line: int | None


class Step(TypedDict):
    """One turn of a run."""

    number: int
    unfinished: bool
    started: float
    seconds: float
    reasoning: Text
    code: Text
    outcome: str | None
    error: CellError | None
    cell_started: float | None
    cell_seconds: float | None
    output: Text
    output_chars: int
    shown: Text
    shown_chars: int
    shortened: bool
    state_lost: bool
    root_calls: list[int]
    sub_calls: list[int]
    tools: list[int]
    sub_runs: list[int]
    checkpoint_bytes: int | None
    assigned: list[str]


class Variable(TypedDict):
    """A name of the REPL."""

    name: str
    kind: str
    assigned: list[int]
    used: list[int]


class Quote(TypedDict):
    """A quote or a span in an output, at its place in an input."""

    output: str
    input: str
    path: str
    start: int
    end: int
    line: int | None
    text: Text
    before: Text
    after: Text


class Run(TypedDict):
    """One run: the root, or a sub-run."""

    id: str
    parent: int | None
    parent_step: int | None
    depth: int
    status: str
    stopped_by: str
    started: float
    seconds: float | None
    signature: Text
    instructions: Text
    inputs: list[Input]
    outputs: list[Output]
    steps: list[Step]
    setup: list[int]
    extraction: list[int]
    variables: list[Variable]
    quotes: list[Quote]
    turns_lost: dict[str, int]
    repairs: dict[str, int]
    error: Text


class Attempt(TypedDict):
    """One request of a call."""

    started: float
    seconds: float
    error: Text
    cached: bool
    cut: bool
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None


class Call(TypedDict):
    """One LM call."""

    run: int
    step: int | None
    kind: str
    is_sub_call: bool
    tool: int | None
    model: str
    depth: int
    status: str
    cached: bool
    started: float
    seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    finish_reason: str
    prompt: int | None
    chars_in: int
    chars_out: int
    replies: list[Text]
    error: Text
    error_type: str
    error_status: int | None
    attempts: list[Attempt]
    group: int | None
    options: Text


class ToolCall(TypedDict):
    """One call of a tool, or of a function of the REPL."""

    run: int
    step: int
    name: str
    is_tool: bool
    started: float
    seconds: float | None
    arguments: Text
    result: Text
    error: Text
    error_type: str


class Message(TypedDict):
    """One message of a prompt."""

    role: str
    content: Text
    more: Text


class Prompt(TypedDict):
    """The prompt of one or more calls."""

    messages: list[Message]


class Totals(TypedDict):
    """The calls of one model at one depth."""

    model: str
    depth: int
    is_sub_call: bool
    calls: int
    cached: int
    failed: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    seconds: float


class Gauge(TypedDict):
    """One limit of the budget, with its use over time."""

    name: str
    unit: str
    limit: float | None
    spent: float | None
    reached: bool
    points: list[tuple[float, float]]


class Segment(TypedDict):
    """A part of the critical path."""

    part: str
    start: float
    end: float
    run: int
    step: int | None
    call: int | None
    tool: int | None


class TimeParts(TypedDict):
    """The critical path."""

    by_part: dict[str, float]
    critical: list[Segment]


class Place(TypedDict):
    """A run, a step or a call that a warning leads to."""

    run: int
    step: int | None
    call: int | None


class Warning(TypedDict):
    """A kind of waste, with what to do about it."""

    kind: str
    text: Text
    advice: Text
    number: int
    places: list[Place]


class Journal(TypedDict):
    """One recorded run with its sub-runs."""

    name: str
    path: str
    status: str
    stopped_by: str
    started_at: float
    seconds: float
    runs: list[Run]
    calls: list[Call]
    tools: list[ToolCall]
    prompts: list[Prompt]
    groups: list[list[int]]
    totals: list[Totals]
    budget: list[Gauge]
    time: TimeParts
    warnings: list[Warning]
    notes: list[Text]
    settings: list[tuple[str, Text]]


class ViewDocument(TypedDict):
    """The document of a page."""

    format: str
    version: int
    written_at: float
    written_by: str
    redacted: bool
    live: bool
    chunks: list[int]
    texts: list[TextEntry]
    journals: list[Journal]


class LiveAnswer(TypedDict):
    """The answer of the server of `--live` to a page that has an earlier version."""

    version: int
    document: ViewDocument
    chunks: list[str]
