/** The cost and the time of a run: totals, budgets, the critical path, warnings. */

import type { CallIndex, RunIndex, Seconds, Text, ToolIndex } from "./basics.ts";

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
