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
    """See `document.ts`."""

    path: str
    chars: int
    seen: list[int]
    text: Text | None


class Coverage(TypedDict):
    """See `document.ts`."""

    chars: int
    seen: int
    fraction: float
    read: float | None
    exact: bool
    texts: list[CoveredText]


class Input(TypedDict):
    """See `document.ts`."""

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
    """See `document.ts`."""

    step: int
    function: str
    row: int | None
    verbatim: bool
    call: int | None


class InputRange(TypedDict):
    """See `document.ts`."""

    input: str
    path: str
    start: int
    end: int


class Lineage(TypedDict):
    """See `document.ts`."""

    steps: list[int]
    sub_calls: list[LineageCall]
    ranges: list[InputRange]
    exact: bool


class Output(TypedDict):
    """See `document.ts`."""

    name: str
    annotation: str
    kind: str
    size: int
    value: Text
    note: Text
    missing: bool
    lineage: Lineage | None


class CellError(TypedDict):
    """See `document.ts`."""

    type: str
    message: Text
    traceback: Text
    line: int | None


class Step(TypedDict):
    """See `document.ts`."""

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
    """See `document.ts`."""

    name: str
    kind: str
    assigned: list[int]
    used: list[int]


class Quote(TypedDict):
    """See `document.ts`."""

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
    """See `document.ts`."""

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
    """See `document.ts`."""

    started: float
    seconds: float
    error: Text
    cached: bool
    cut: bool
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None


class Call(TypedDict):
    """See `document.ts`."""

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
    """See `document.ts`."""

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
    """See `document.ts`."""

    role: str
    content: Text
    more: Text


class Prompt(TypedDict):
    """See `document.ts`."""

    messages: list[Message]


class Totals(TypedDict):
    """See `document.ts`."""

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
    """See `document.ts`."""

    name: str
    unit: str
    limit: float | None
    spent: float | None
    reached: bool
    points: list[tuple[float, float]]


class Segment(TypedDict):
    """See `document.ts`."""

    part: str
    start: float
    end: float
    run: int
    step: int | None
    call: int | None
    tool: int | None


class TimeParts(TypedDict):
    """See `document.ts`."""

    by_part: dict[str, float]
    critical: list[Segment]


class Place(TypedDict):
    """See `document.ts`."""

    run: int
    step: int | None
    call: int | None


class Warning(TypedDict):
    """See `document.ts`."""

    kind: str
    text: Text
    advice: Text
    number: int
    places: list[Place]


class Journal(TypedDict):
    """See `document.ts`."""

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
    """The document."""

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
