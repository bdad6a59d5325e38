/**
 * The places of texts: which step, call or input has the text at a position of the chunks.
 */

import type { Journal, Text } from "./format.ts";
import type { Store } from "./store.ts";

/** A place that a link can lead to. */
export interface Place {
  /** The id of the page, such as `r0-s3` or `c17`, without the prefix of the journal. */
  readonly id: string;
  readonly journal: number;
  /** The view of it, such as `prompt`; empty for the first one. */
  readonly view: string;
  /** As in "Step 3 · output". */
  readonly label: string;
}

/** The places that have a position, and the span of the first one's text around it. */
export interface Found {
  readonly places: readonly [Place, ...Place[]];
  readonly start: number;
  readonly end: number;
}

export class Places {
  /** Short texts, which are in the document itself. */
  readonly short: { readonly text: string; readonly place: Place }[] = [];
  readonly #byText = new Map<number, Place[]>();
  /** `[start, end, text]` of all spans, by start. */
  #spans: [number, number, number][] = [];
  /** The longest span: a position is in none that begins earlier than this before it. */
  #longest = 0;

  constructor(store: Store) {
    store.journals.forEach((journal, index) => this.#addJournal(journal, index));
    store.texts.entries.forEach((entry, text) => {
      for (let index = 1; this.#byText.has(text) && index + 1 < entry.length; index += 2) {
        const [start, end] = [entry[index] ?? 0, entry[index + 1] ?? 0];
        this.#spans.push([start, end, text]);
        this.#longest = Math.max(this.#longest, end - start);
      }
    });
    this.#spans.sort((one, other) => one[0] - other[0]);
  }

  /** Returns the places of the texts that have a position, the first ones first; null if none has it. */
  at(position: number): Found | null {
    let [low, high] = [0, this.#spans.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#spans[middle]?.[0] ?? 0) <= position) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const texts = new Map<number, [number, number]>();
    for (let index = low - 1; index >= 0; index--) {
      const [start, end, text] = this.#spans[index] ?? [0, 0, 0];
      if (start < position - this.#longest) {
        break;
      }
      if (end > position) {
        texts.set(text, [start, end]);
      }
    }
    const numbers = [...texts.keys()].sort((one, other) => one - other);
    const [first, ...others] = numbers.flatMap((text) => this.#byText.get(text) ?? []);
    const [start, end] = texts.get(numbers[0] ?? -1) ?? [0, 0];
    return first === undefined ? null : { places: [first, ...others], start, end };
  }

  #add(text: Text, place: Place): void {
    if (typeof text === "string") {
      if (text !== "") {
        this.short.push({ text, place });
      }
    } else if (typeof text === "number") {
      const known = this.#byText.get(text);
      if (known === undefined) {
        this.#byText.set(text, [place]);
      } else if (known.at(-1)?.id !== place.id || known.at(-1)?.label !== place.label) {
        known.push(place);
      }
    }
  }

  #addJournal(journal: Journal, index: number): void {
    const at = (id: string, view: string, label: string): Place => ({
      id,
      journal: index,
      view,
      label,
    });
    journal.runs.forEach((run, number) => {
      const id = `r${number}`;
      const name = number === 0 ? "Run" : `Sub-run ${number}`;
      this.#add(run.signature, at(id, "", `${name} \u00b7 signature`));
      this.#add(run.instructions, at(id, "", `${name} \u00b7 instructions`));
      this.#add(run.error, at(id, "", `${name} \u00b7 error`));
      for (const output of run.outputs) {
        this.#add(output.name, at(id, "outputs", `${name} \u00b7 output`));
        this.#add(output.value, at(id, "outputs", `${name} \u00b7 output ${output.name}`));
      }
      for (const step of run.steps) {
        const stepId = `${id}-s${step.number}`;
        const stepName = number === 0 ? `Step ${step.number}` : `${name}, step ${step.number}`;
        this.#add(step.reasoning, at(stepId, "", `${stepName} \u00b7 reasoning`));
        this.#add(step.code, at(stepId, "", `${stepName} \u00b7 code`));
        this.#add(step.output, at(stepId, "", `${stepName} \u00b7 output`));
        this.#add(step.shown, at(stepId, "", `${stepName} \u00b7 shown output`));
        if (step.error !== null) {
          this.#add(step.error.message, at(stepId, "", `${stepName} \u00b7 error`));
          this.#add(step.error.traceback, at(stepId, "", `${stepName} \u00b7 traceback`));
        }
      }
      for (const input of run.inputs) {
        this.#add(input.name, at(id, "inputs", `${name} \u00b7 input`));
        this.#add(input.preview, at(id, "inputs", `${name} \u00b7 input ${input.name}`));
        for (const text of input.coverage?.texts ?? []) {
          this.#add(
            text.text ?? "",
            at(id, "inputs", `${name} \u00b7 input ${input.name}${text.path}`),
          );
        }
      }
      for (const variable of run.variables) {
        this.#add(variable.name, at(id, "variables", `${name} \u00b7 variable`));
      }
    });
    const prefixes = journal.runs.map((_, run) => run === 0 ? "S" : `Sub-run ${run}, s`);
    journal.calls.forEach((call, number) => {
      const place = call.step === null
        ? ""
        : `${prefixes[call.run] ?? "S"}tep ${call.step} \u00b7 `;
      const ofStep = !call.is_sub_call && call.step !== null;
      const label = ofStep ? place.slice(0, -3) : `${place}${call.kind} (call ${number})`;
      const id = ofStep ? `r${call.run}-s${call.step}` : `c${number}`;
      const view = ofStep ? "prompt" : "";
      for (
        const message of call.prompt === null ? [] : journal.prompts[call.prompt]?.messages ?? []
      ) {
        this.#add(message.content, at(id, view, `${label} \u00b7 prompt`));
        this.#add(message.more, at(id, view, `${label} \u00b7 prompt`));
      }
      for (const reply of call.replies) {
        this.#add(reply, at(id, view, `${label} \u00b7 reply`));
      }
      this.#add(call.error, at(id, "", `${label} \u00b7 error`));
    });
    journal.tools.forEach((tool, number) => {
      const label = `Step ${tool.step} \u00b7 ${tool.name}`;
      this.#add(tool.arguments, at(`t${number}`, "", `${label} \u00b7 arguments`));
      this.#add(tool.result, at(`t${number}`, "", `${label} \u00b7 result`));
      this.#add(tool.error, at(`t${number}`, "", `${label} \u00b7 error`));
    });
    journal.warnings.forEach((warning, number) => {
      this.#add(warning.text, at(`w${number}`, "", "Warning"));
      this.#add(warning.advice, at(`w${number}`, "", "Warning \u00b7 advice"));
    });
  }
}
