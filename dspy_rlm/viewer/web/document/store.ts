/**
 * The document of the page and what follows from it: the run above a run, the steps of a call, the totals of a run.
 *
 * Holds the newest document while a page is live; views ask it anew at each change.
 */

import { blockOf, inflate } from "./blocks.ts";
import { FORMAT, VERSION } from "./format.ts";
import type {
  Call,
  CallIndex,
  Journal,
  LiveAnswer,
  Message,
  Run,
  RunIndex,
  Step,
  Text,
  ToolCall,
  ViewDocument,
} from "./format.ts";
import { charsOf, Texts } from "./texts.ts";

/** A page that cannot be shown; the message says why. */
export class DocumentError extends Error {}

export class Store {
  readonly texts: Texts;
  #document: ViewDocument;
  readonly #liveChunks = new Map<number, string>();

  private constructor(first: ViewDocument) {
    this.#document = first;
    this.texts = new Texts((index) => this.#liveChunks.get(index) ?? blockOf(`chunk-${index}`));
    this.texts.update(first.texts, first.chunks);
  }

  /** Reads the document of the page. */
  static async open(): Promise<Store> {
    const block = blockOf("document");
    if (block === null) {
      throw new DocumentError("This page has no document. Write it again with `dspy-rlm view`.");
    }
    const parsed = JSON.parse(new TextDecoder().decode(await inflate(block))) as ViewDocument;
    return new Store(checked(parsed));
  }

  /** Takes an answer of `--live`. */
  update(answer: LiveAnswer): void {
    const document = checked(answer.document);
    const first = document.chunks.length - answer.chunks.length;
    answer.chunks.forEach((chunk, index) => this.#liveChunks.set(first + index, chunk));
    this.#document = document;
    this.texts.update(document.texts, document.chunks);
  }

  get document(): ViewDocument {
    return this.#document;
  }

  get journals(): readonly Journal[] {
    return this.#document.journals;
  }

  /** Returns a journal: 0 is the one that is viewed. */
  journal(index: number): Journal {
    const journal = this.#document.journals[index] ?? this.#document.journals[0];
    if (journal === undefined) {
      throw new DocumentError("This page has no journal in it.");
    }
    return journal;
  }

  /** The characters of a text, without reading it. */
  chars(text: Text): number {
    return charsOf(text, this.texts.entries);
  }

  read(text: Text): Promise<string> {
    return this.texts.read(text);
  }
}

function checked(document: ViewDocument): ViewDocument {
  if (document.format !== FORMAT || document.version !== VERSION) {
    throw new DocumentError("This page's document is of another version than its script.");
  }
  return document;
}

/** Returns a step by its number. */
export function stepOf(run: Run, number: number | null): Step | undefined {
  return run.steps.find((step) => step.number === number);
}

/** Returns the step before one in its run. */
export function stepBefore(run: Run, number: number): Step | undefined {
  return run.steps.findLast((step) => step.number < number);
}

/** Returns the calls with these indexes. */
export function callsAt(journal: Journal, indexes: readonly CallIndex[]): Call[] {
  return indexes.map((index) => journal.calls[index]).filter((call) => call !== undefined);
}

/** Returns the tool calls of a step. */
export function toolsOf(journal: Journal, step: Step): ToolCall[] {
  return step.tools.map((index) => journal.tools[index]).filter((tool) => tool !== undefined);
}

/** Returns the runs that a run has started, with those below them, and the run itself. */
function familyOf(journal: Journal, run: RunIndex): Set<RunIndex> {
  const family = new Set([run]);
  // A run is after the one above it, so one pass finds all.
  journal.runs.forEach((one, index) => {
    if (one.parent !== null && family.has(one.parent)) {
      family.add(index);
    }
  });
  return family;
}

/** Returns the indexes of all sub-calls of a run and of the runs below it. */
export function subCallsOf(journal: Journal, run: RunIndex): CallIndex[] {
  const family = familyOf(journal, run);
  return journal.calls.flatMap((call, index) =>
    family.has(call.run) && (call.is_sub_call || call.run !== run) ? [index] : []
  );
}

/** Returns the prompt of the root LM for a step: of its last call, which has led to the code. */
export function promptOf(journal: Journal, step: Step | undefined): readonly Message[] | null {
  const calls = step === undefined ? [] : callsAt(journal, step.root_calls);
  const prompt = calls.findLast((call) => call.prompt !== null)?.prompt;
  return prompt === undefined || prompt === null ? null : journal.prompts[prompt]?.messages ?? null;
}

/** A sum of amounts of which some may be unknown, such as those of failed calls. */
export interface Total {
  /** Null: nothing of it is known. */
  readonly known: number | null;
  /** True if none is unknown. */
  readonly exact: boolean;
}

/** The totals of some calls. */
export interface Sum {
  readonly calls: number;
  readonly inputTokens: Total;
  readonly outputTokens: Total;
  readonly tokens: Total;
  readonly cost: Total;
}

/** Returns the totals of some calls. */
export function sumOf(calls: readonly Call[]): Sum {
  const [inputTokens, outputTokens] = [
    total(calls.map((call) => call.input_tokens)),
    total(calls.map((call) => call.output_tokens)),
  ];
  return {
    calls: calls.length,
    inputTokens,
    outputTokens,
    tokens: {
      known: inputTokens.known === null ? null : inputTokens.known + (outputTokens.known ?? 0),
      exact: inputTokens.exact && outputTokens.exact,
    },
    cost: total(calls.map((call) => call.cost)),
  };
}

function total(amounts: readonly (number | null)[]): Total {
  const sum = amounts.reduce<number>((all, amount) => all + (amount ?? 0), 0);
  const exact = amounts.every((amount) => amount !== null);
  return { known: exact || sum > 0 ? sum : null, exact };
}
