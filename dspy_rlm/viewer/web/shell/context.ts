/**
 * What a view knows: the document, and where in it the page is.
 */

import type { Journal, Run, Step } from "../document/format.ts";
import type { Store } from "../document/store.ts";
import type { Route, Target } from "./route.ts";
import { linkTo } from "./route.ts";

/** Choices of a person that outlive a view: sorting, filters, which side of a switch is on. */
export class Choices {
  readonly #values = new Map<string, unknown>();

  get<Value>(name: string, otherwise: Value): Value {
    return (this.#values.get(name) as Value | undefined) ?? otherwise;
  }

  set(name: string, value: unknown): void {
    this.#values.set(name, value);
  }
}

export interface Context {
  readonly store: Store;
  readonly route: Route;
  readonly journal: Journal;
  readonly journalIndex: number;
  readonly runIndex: number;
  readonly run: Run;
  /** Undefined in the views of a run. */
  readonly step: Step | undefined;
  readonly choices: Choices;
  /** Opens a permalink. */
  readonly go: (link: string) => void;
  /** Changes the permalink of what is shown, without drawing it again. */
  readonly rename: (link: string) => void;
}

/** Returns the permalink of a place in the journal of a view. */
export function link(
  context: Context,
  target: Target | string,
  view = "",
  rest: readonly (string | number)[] = [],
): string {
  return linkTo(context.journalIndex, target, view, rest);
}

/** Returns the permalink of a step of the view's run. */
export function stepLink(context: Context, number: number, view = ""): string {
  return link(context, { kind: "step", run: context.runIndex, step: number }, view);
}

/** Returns the name of a run for people. */
export function runName(index: number): string {
  return index === 0 ? "Run" : `Sub-run ${index}`;
}
