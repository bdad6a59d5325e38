/** LM calls, tool calls and prompts. */

import type { PromptIndex, RunIndex, Seconds, Text, ToolIndex } from "./basics.ts";

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
