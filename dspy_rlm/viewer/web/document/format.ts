/**
 * The document of the viewer: the data of one or two recorded runs. `dspy_rlm/viewer/` writes it, the page reads it.
 *
 * Everything in it may come from a model or from a file of unknown origin: no text is HTML, a URL, a selector or code.
 *
 * The page
 * --------
 *     <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'sha256-…'; style-src 'sha256-…'; …">
 *     <style>…viewer.css…</style>
 *     <body>
 *       <div id="app" hidden></div>            the page's own root: show it, then remove #outline
 *       <main id="outline">…</main>            plain HTML with <details>; stays if the script cannot run
 *       <script type="application/octet-stream" id="document">BASE64</script>   zlib-deflated JSON: a ViewDocument
 *       <script type="application/octet-stream" id="chunk-0">BASE64</script>    zlib-deflated UTF-8, one for each `chunks[i]`
 *       <script>…viewer.js, one classic script (IIFE)…</script>
 *
 * `new DecompressionStream("deflate")` inflates each block. The policy allows no style attributes (set properties of
 * `element.style` through the CSSOM instead), no `blob:`, no workers, no images but `data:` ones, no eval. With `--live` alone
 * `connect-src 'self'` is added; see `LiveAnswer`.
 *
 * Ids of the outline, which are the permalinks of the page too (after `#`): run `r0`, step `r0-s3`, call `c17`, tool call `t2`,
 * warning `w1`; those of the second journal (`--compare`) begin with `b-`, as in `b-r0-s3`. Indexes are stable while a run goes
 * on: runs, calls and tools are in the order in which they began.
 *
 * Texts
 * -----
 * A chunk holds up to about 256 KB of text before it is deflated. All chunks inflated, one after another, are one long array of
 * bytes; a text is some spans of it. A prompt that repeats the one before shares its spans, so equal beginnings and endings of
 * two prompts are known without reading them. Spans may cross chunks. Equal texts have the same number.
 */

export const FORMAT = "dspy-rlm.view";
export const VERSION = 1;

/** A short text itself, a longer one by its number in `ViewDocument.texts`, or one that was removed by `--redact`. */
export type Text = string | number | RemovedText;

/** A text that `--redact` has removed: only its size is known. */
export interface RemovedText {
  readonly chars: number;
  readonly lines: number;
}

/** `[chars, start, end, start, end, …]`: Unicode characters, then the spans, in bytes of UTF-8 of all inflated chunks. */
export type TextEntry = readonly number[];

export interface ViewDocument {
  readonly format: typeof FORMAT;
  readonly version: number;
  /** The time at which the page was written, in seconds since the epoch. */
  readonly written_at: number;
  /** As in "dspy-rlm 0.2.0". */
  readonly written_by: string;
  /** True after `--redact`. */
  readonly redacted: boolean;
  /** True if the page is served by `--live`: then poll, see `LiveAnswer`. */
  readonly live: boolean;
  /** The inflated bytes of each chunk. */
  readonly chunks: readonly number[];
  readonly texts: readonly TextEntry[];
  /** The run that is viewed; with `--compare` the other one too. */
  readonly journals: readonly Journal[];
}

/**
 * The answer of `--live` to `GET changes?version=V&chunks=N` (relative to the page's address): status 204 if nothing is new
 * after V, 410 if the journal is gone; else this, as JSON. `texts` and `chunks` only grow, so numbers stay valid. Poll once a
 * second; stop when `journals[0].status` is not `running`, or after some failures in a row (say so on the page).
 */
export interface LiveAnswer {
  readonly version: number;
  readonly document: ViewDocument;
  /** The blocks from number N on, in base64 as in the page. */
  readonly chunks: readonly string[];
}

/** Seconds from `Journal.started_at`; a float. */
export type Seconds = number;

/** An index into `Journal.runs`, `.calls`, `.tools` or `.prompts`. */
export type RunIndex = number;
export type CallIndex = number;
export type ToolIndex = number;
export type PromptIndex = number;

export type Status =
  | "submitted" // by the LM
  | "extracted" // when no turn was left
  | "partial" // some outputs may be missing
  | "failed"
  | "running" // a process writes the journal
  | "crashed"; // it has no end, and no process writes it

export interface Journal {
  /** The name of the file; empty after `--redact`. */
  readonly name: string;
  /** Its whole path; empty after `--redact`. */
  readonly path: string;
  readonly status: Status;
  /** `SUBMIT`, the name of a limit, `interrupted`, or the name of an exception; empty if it has no end. */
  readonly stopped_by: string;
  /** Seconds since the epoch; all other times are relative to it. */
  readonly started_at: number;
  /** From the start to the end, or to the last event so far. */
  readonly seconds: Seconds;
  /** The root is `runs[0]`. */
  readonly runs: readonly Run[];
  /** All LM calls of all runs. */
  readonly calls: readonly Call[];
  /** All calls of users' tools and of the REPL's functions (`sub_llm_batched`, `sub_rlm`, …). */
  readonly tools: readonly ToolCall[];
  /** Prompts, each once. */
  readonly prompts: readonly Prompt[];
  /** Sub-calls with equal model, prompt and options: groups of two or more. `Call.group` is an index into it. */
  readonly groups: readonly (readonly CallIndex[])[];
  readonly totals: readonly Totals[];
  readonly budget: readonly Gauge[];
  readonly time: TimeParts;
  /** The most frequent first. */
  readonly warnings: readonly Warning[];
  /** Defects of the journal: damaged lines, missing values. */
  readonly notes: readonly Text[];
  /** `[name, value]`: versions, style, adapter, seed and other settings, in the order in which to show them. */
  readonly settings: readonly (readonly [string, Text])[];
}

export interface Run {
  readonly id: string;
  /** The run above; null for the root. */
  readonly parent: RunIndex | null;
  /** The number of the step of the run above whose code started it; null for the root, or if it is not known. */
  readonly parent_step: number | null;
  readonly depth: number;
  readonly status: Status;
  readonly stopped_by: string;
  readonly started: Seconds;
  /** Null: it has no end. */
  readonly seconds: Seconds | null;
  /** As in `pages: list[str], question: str -> answer: str`. */
  readonly signature: Text;
  readonly instructions: Text;
  readonly inputs: readonly Input[];
  readonly outputs: readonly Output[];
  readonly steps: readonly Step[];
  /** Calls of setup code, before the first step. */
  readonly setup: readonly CallIndex[];
  /** Calls for the extraction of the outputs, after the last step. */
  readonly extraction: readonly CallIndex[];
  readonly variables: readonly Variable[];
  readonly quotes: readonly Quote[];
  /** Turns that the form of a reply cost, by cause. */
  readonly turns_lost: Readonly<Record<string, number>>;
  readonly repairs: Readonly<Record<string, number>>;
  /** The error that ended it, if there is one. */
  readonly error: Text;
}

export interface Step {
  /** From 1. */
  readonly number: number;
  /** True for the last step of a run that crashed or is in progress. */
  readonly unfinished: boolean;
  readonly started: Seconds;
  /** Of the whole turn, from its start to the next one's, or to the end of the run. */
  readonly seconds: Seconds;
  readonly reasoning: Text;
  readonly code: Text;
  /** Null: no cell was run, or it is running. */
  readonly outcome: "completed" | "submitted" | "failed" | null;
  readonly error: CellError | null;
  readonly cell_started: Seconds | null;
  readonly cell_seconds: Seconds | null;
  /** All that the cell printed, as far as the sandbox returned it. */
  readonly output: Text;
  readonly output_chars: number;
  /** The part that the root LM saw, with the notes of the harness. Equal to `output` (same text) in most steps. */
  readonly shown: Text;
  readonly shown_chars: number;
  /** True if the root LM saw less than was printed. */
  readonly shortened: boolean;
  /** True if the definitions of earlier cells were lost. */
  readonly state_lost: boolean;
  /** The calls of the root LM for this turn; more than one if a reply was refused or a request failed. */
  readonly root_calls: readonly CallIndex[];
  readonly sub_calls: readonly CallIndex[];
  readonly tools: readonly ToolIndex[];
  readonly sub_runs: readonly RunIndex[];
  /** The saved state of the REPL: bytes; null if there is none. `dspy-rlm open RUN --step K` opens any step anyway. */
  readonly checkpoint_bytes: number | null;
  /** The names that the cell has assigned or imported, in the order of the code. */
  readonly assigned: readonly string[];
}

export interface CellError {
  readonly type: string;
  readonly message: Text;
  readonly traceback: Text;
  /** The line of `code` that failed, from 1; null if it is not known. */
  readonly line: number | null;
}

export type CallStatus =
  | "answered"
  | "cut" // the reply ended at its limit of tokens
  | "empty" // the reply has no text
  | "refused" // by the model
  | "failed"
  | "running" // under way; in a journal of a run that ended or crashed: its result was not awaited
;

export interface Call {
  readonly run: RunIndex;
  /** Null: setup or extraction. */
  readonly step: number | null;
  /** `action`, `extract`, `adapter`, `compact` for the run's own turns, else the function of the REPL. */
  readonly kind: string;
  readonly is_sub_call: boolean;
  /** The tool call (of a function of the REPL) that made it. */
  readonly tool: ToolIndex | null;
  readonly model: string;
  readonly depth: number;
  readonly status: CallStatus;
  readonly cached: boolean;
  readonly started: Seconds;
  /** Until its end: retries and waiting included. Null: it has no end. */
  readonly seconds: Seconds | null;
  /** Null: unknown. The same holds for the next two. */
  readonly input_tokens: number | null;
  readonly output_tokens: number | null;
  /** US dollars. */
  readonly cost: number | null;
  readonly finish_reason: string;
  /** Null: it is not in the journal any more. */
  readonly prompt: PromptIndex | null;
  /** Characters of the prompt and of the reply. */
  readonly chars_in: number;
  readonly chars_out: number;
  /** One for each completion, most often one. A reply with tool calls or other data is JSON. */
  readonly replies: readonly Text[];
  readonly error: Text;
  readonly error_type: string;
  /** The HTTP status of the error. */
  readonly error_status: number | null;
  /** More than one if requests failed or were sent again. */
  readonly attempts: readonly Attempt[];
  /** An index into `Journal.groups`; null if the prompt is the only one of its kind. */
  readonly group: number | null;
  /** The options of the call, as JSON; empty if there are none. */
  readonly options: Text;
}

export interface Attempt {
  readonly started: Seconds;
  readonly seconds: Seconds;
  readonly error: Text;
  readonly cached: boolean;
  readonly cut: boolean;
  readonly input_tokens: number | null;
  readonly output_tokens: number | null;
  readonly cost: number | null;
}

export interface ToolCall {
  readonly run: RunIndex;
  readonly step: number;
  readonly name: string;
  /** True for a tool of the user; false for a function of the REPL, whose LM calls are in `Journal.calls`. */
  readonly is_tool: boolean;
  readonly started: Seconds;
  /** Null: it has no end. */
  readonly seconds: Seconds | null;
  /** JSON `[[positional…], {by name…}]`, or a note in round brackets. Empty for a function of the REPL. */
  readonly arguments: Text;
  readonly result: Text;
  readonly error: Text;
  readonly error_type: string;
}

export interface Prompt {
  readonly messages: readonly Message[];
}

export interface Message {
  readonly role: string;
  readonly content: Text;
  /** Other parts of the message, as JSON: tool calls, images (without their data); empty if there are none. */
  readonly more: Text;
}

/** The calls of one model at one depth, those of the run's own turns apart from sub-calls. */
export interface Totals {
  readonly model: string;
  readonly depth: number;
  readonly is_sub_call: boolean;
  readonly calls: number;
  readonly cached: number;
  readonly failed: number;
  readonly input_tokens: number | null;
  readonly output_tokens: number | null;
  readonly cost: number | null;
  /** The sum of the latencies. */
  readonly seconds: number;
}

/** One limit of the budget, with its use over time. */
export interface Gauge {
  readonly name: "max_iterations" | "max_llm_calls" | "max_tokens" | "max_cost" | "max_seconds";
  readonly unit: "turns" | "calls" | "tokens" | "dollars" | "seconds";
  /** Null: no limit. */
  readonly limit: number | null;
  /** Null: a part of it is unknown. */
  readonly spent: number | null;
  /** True if it has ended the run. */
  readonly reached: boolean;
  /** `[time, spent so far]`, rising, at most 400 of them; begins with `[0, 0]`. */
  readonly points: readonly (readonly [Seconds, number])[];
}

export type Part = "root" | "sandbox" | "sub" | "tool" | "other";

export interface TimeParts {
  /** Seconds of the critical path by part; their sum is `Journal.seconds`. */
  readonly by_part: Readonly<Record<Part, number>>;
  /** The critical path from the start to the end of the run, without gaps. Equal neighbours are merged. */
  readonly critical: readonly Segment[];
}

export interface Segment {
  readonly part: Part;
  readonly start: Seconds;
  readonly end: Seconds;
  readonly run: RunIndex;
  readonly step: number | null;
  readonly call: CallIndex | null;
  readonly tool: ToolIndex | null;
}

export interface Warning {
  /** `turns_lost`, `failed_cells`, `repeated_prompts`, `cut_replies`, `failed_calls`, `slow_calls`, `unread_inputs`, … */
  readonly kind: string;
  readonly text: Text;
  /** The remedy. */
  readonly advice: Text;
  readonly number: number;
  readonly places: readonly Place[];
}

export interface Place {
  readonly run: RunIndex;
  readonly step: number | null;
  readonly call: CallIndex | null;
}

export interface Input {
  readonly name: string;
  readonly annotation: string;
  readonly description: Text;
  /** `text`, `json`, `bytes`, `npy`, `parquet`, `file`, `directory` or `not_stored`. */
  readonly kind: string;
  /** Characters of a text, else bytes. */
  readonly size: number;
  /** Of a file or a directory. */
  readonly path: Text;
  readonly note: Text;
  /** Its beginning: up to 2,000 characters; JSON for data; empty if there is none. */
  readonly preview: Text;
  /** Null: not tracked (`track_coverage=True` tracks it). */
  readonly coverage: Coverage | null;
}

export interface Coverage {
  /** Characters of its texts; of a file that no code has read, its bytes. */
  readonly chars: number;
  readonly seen: number;
  readonly fraction: number;
  /** The fraction that code has read; null: not tracked. */
  readonly read: number | null;
  readonly exact: boolean;
  /** The texts of the input, in order: one for a `str`, one for each page of a list, each file of a directory. */
  readonly texts: readonly CoveredText[];
}

export interface CoveredText {
  /** As code writes it, such as `[3]`; of a file in a directory its path; empty for the input itself. */
  readonly path: string;
  /** Its length; at least the end of the last range. */
  readonly chars: number;
  /** `[start, end, start, end, …]`: ranges that LMs were shown, rising; in UTF-16 code units if `text` is there. */
  readonly seen: readonly number[];
  /** The text itself, if it is in the journal and at most 2,000,000 characters long; else null. */
  readonly text: Text | null;
}

/** A quote or a span in an output, at its place. */
export interface Quote {
  readonly output: string;
  readonly input: string;
  /** As in `CoveredText.path`. */
  readonly path: string;
  /** In the same unit as `CoveredText.seen`. */
  readonly start: number;
  readonly end: number;
  /** From 1; null if it is not known. */
  readonly line: number | null;
  readonly text: Text;
  /** Up to 300 characters before and after it; empty if the input is not in the journal. */
  readonly before: Text;
  readonly after: Text;
}

export interface Output {
  readonly name: string;
  readonly annotation: string;
  readonly kind: string;
  readonly size: number;
  /** A text itself, data as JSON (indented); empty if it is not stored. */
  readonly value: Text;
  readonly note: Text;
  /** True if the run has ended without it. */
  readonly missing: boolean;
  readonly lineage: Lineage | null;
}

export interface Lineage {
  /** The numbers of the steps. */
  readonly steps: readonly number[];
  readonly sub_calls: readonly LineageCall[];
  readonly ranges: readonly InputRange[];
  readonly exact: boolean;
}

export interface LineageCall {
  readonly step: number;
  readonly function: string;
  /** The row of a batch, from 0; null for a single call. */
  readonly row: number | null;
  /** True if text of the output is in its reply. */
  readonly verbatim: boolean;
  /** Null if it is not clear which it is. */
  readonly call: CallIndex | null;
}

export interface InputRange {
  readonly input: string;
  readonly path: string;
  readonly start: number;
  readonly end: number;
}

/** A name of the REPL. The journal has no values: `dspy-rlm open RUN --step K` has. */
export interface Variable {
  readonly name: string;
  readonly kind: "input" | "assigned" | "function" | "class" | "import";
  /** The numbers of the steps that have assigned it; empty for an input. */
  readonly assigned: readonly number[];
  /** Those that have read it. */
  readonly used: readonly number[];
}
