/** Inputs and outputs: how much of an input was read, and where an output comes from. */

import type { CallIndex, Text } from "./basics.ts";

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
