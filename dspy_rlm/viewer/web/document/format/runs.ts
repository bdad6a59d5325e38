/** A run, its steps and the names of its REPL. */

import type { CallIndex, RunIndex, Seconds, Status, Text, ToolIndex } from "./basics.ts";
import type { Input, Output, Quote } from "./evidence.ts";

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

/** A name of the REPL. The journal has no values: `dspy-rlm open RUN --step K` has. */
export interface Variable {
  readonly name: string;
  readonly kind: "input" | "assigned" | "function" | "class" | "import";
  /** The numbers of the steps that have assigned it; empty for an input. */
  readonly assigned: readonly number[];
  /** Those that have read it. */
  readonly used: readonly number[];
}
