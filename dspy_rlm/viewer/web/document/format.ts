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

import type { CallIndex, Seconds, Status, Text, TextEntry } from "./format/basics.ts";
import type { Call, Prompt, ToolCall } from "./format/calls.ts";
import type { Gauge, TimeParts, Totals, Warning } from "./format/figures.ts";
import type { Run } from "./format/runs.ts";

export type * from "./format/basics.ts";
export type * from "./format/calls.ts";
export type * from "./format/evidence.ts";
export type * from "./format/figures.ts";
export type * from "./format/runs.ts";

export const FORMAT = "dspy-rlm.view";
export const VERSION = 1;

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
