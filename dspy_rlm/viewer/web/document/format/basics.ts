/** Texts, times and indexes: the values that the whole document is made of. */

/** A short text itself, a longer one by its number in `ViewDocument.texts`, or one that was removed by `--redact`. */
export type Text = string | number | RemovedText;

/** A text that `--redact` has removed: only its size is known. */
export interface RemovedText {
  readonly chars: number;
  readonly lines: number;
}

/** `[chars, start, end, start, end, …]`: Unicode characters, then the spans, in bytes of UTF-8 of all inflated chunks. */
export type TextEntry = readonly number[];

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
