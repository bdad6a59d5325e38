/**
 * The tree of runs and steps as rows: which of them are there, and what each says. Decides only; `sidebar.ts` draws.
 */

import type { Journal, Run, RunIndex, Status, Step } from "../document/format.ts";
import { toolsOf } from "../document/store.ts";
import { largest } from "../text/numbers.ts";
import { plain } from "../text/visible.ts";
import type { Tone } from "../ui/parts.ts";

export interface Row {
  readonly journal: number;
  /** As in `r0-s3`. */
  readonly id: string;
  readonly level: number;
  readonly run: RunIndex;
  readonly step: number | null;
  readonly label: string;
  readonly detail: string;
  readonly seconds: number | null;
  /** The part of its run's time, from 0 to 1. */
  readonly share: number;
  readonly state: "good" | "bad" | "warn" | "running" | "submitted" | "quiet";
  readonly error: string;
  /** Null: nothing is below it. */
  readonly open: boolean | null;
}

/** The colour of a status. */
export function toneOf(status: Status): Tone {
  switch (status) {
    case "submitted":
      return "good";
    case "extracted":
    case "partial":
      return "warn";
    case "running":
      return "info";
    case "failed":
    case "crashed":
      return "bad";
  }
}

/** Returns the rows of the journals; `folded` has the ids that are folded, with their journal as in `b-r0`. */
export function rowsOf(journals: readonly Journal[], folded: ReadonlySet<string>): Row[] {
  const rows: Row[] = [];
  journals.forEach((journal, index) => {
    if (journal.runs.length > 0) {
      addRun(rows, journal, index, 0, 1, folded);
    }
  });
  return rows;
}

/** Returns the key of a row for `folded`. */
export function keyOf(row: Pick<Row, "journal" | "id">): string {
  return `${row.journal === 1 ? "b-" : ""}${row.id}`;
}

function addRun(
  rows: Row[],
  journal: Journal,
  journalIndex: number,
  index: RunIndex,
  level: number,
  folded: ReadonlySet<string>,
): void {
  const run = journal.runs[index];
  if (run === undefined) {
    return;
  }
  const id = `r${index}`;
  const open = !folded.has(keyOf({ journal: journalIndex, id }));
  const above = run.parent === null ? undefined : journal.runs[run.parent];
  rows.push({
    journal: journalIndex,
    id,
    level,
    run: index,
    step: null,
    label: index === 0 ? (journalIndex === 1 ? "Other run" : "Run") : `Sub-run ${index}`,
    detail: run.status,
    seconds: run.seconds,
    share: above === undefined || !above.seconds ? 1 : (run.seconds ?? 0) / above.seconds,
    state: run.status === "running" ? "running" : stateOf(toneOf(run.status)),
    error: run.status === "failed" || run.status === "crashed" ? run.stopped_by || run.status : "",
    open: run.steps.length === 0 ? null : open,
  });
  if (!open) {
    return;
  }
  const slowest = largest(run.steps.map((step) => step.seconds), 1e-9);
  for (const step of run.steps) {
    const stepId = `${id}-s${step.number}`;
    const stepOpen = !folded.has(keyOf({ journal: journalIndex, id: stepId }));
    rows.push({
      journal: journalIndex,
      id: stepId,
      level: level + 1,
      run: index,
      step: step.number,
      label: `Step ${step.number}`,
      detail: detailOf(journal, step),
      seconds: step.seconds,
      share: step.seconds / slowest,
      state: stepState(run, step),
      error: step.error === null ? "" : plain(step.error.type, 40),
      open: step.sub_runs.length === 0 ? null : stepOpen,
    });
    if (stepOpen) {
      for (const below of step.sub_runs) {
        addRun(rows, journal, journalIndex, below, level + 2, folded);
      }
    }
  }
}

function stateOf(tone: Tone): Row["state"] {
  return tone === "info" ? "quiet" : tone;
}

/** Returns the state of a step. */
export function stepState(run: Run, step: Step): Row["state"] {
  if (step.unfinished) {
    return run.status === "running" ? "running" : "warn";
  }
  switch (step.outcome) {
    case "failed":
      return "bad";
    case "submitted":
      return "submitted";
    case "completed":
      return "good";
    case null:
      return "warn";
  }
}

/** Returns what a step did, in few words: the functions that it called, or the names that it assigned. */
function detailOf(journal: Journal, step: Step): string {
  if (step.outcome === "submitted") {
    return "SUBMIT";
  }
  const numbers = new Map<string, number>();
  for (const tool of toolsOf(journal, step)) {
    numbers.set(tool.name, (numbers.get(tool.name) ?? 0) + 1);
  }
  if (numbers.size > 0) {
    return [...numbers].map(([name, number]) =>
      plain(number === 1 ? name : `${name} \u00d7${number}`, 40)
    ).join(", ");
  }
  return plain(step.assigned.slice(0, 4).join(", "), 60);
}
