/**
 * The sub-calls as rows of a grid: filtered, sorted, and equal ones grouped. Decides only; `calls.ts` draws.
 */

import type { Call, CallIndex, Journal } from "../document/format.ts";

export type Column = "number" | "status" | "kind" | "model" | "seconds" | "in" | "out" | "cost";

export type Filter = "all" | "failed" | "cut" | "empty" | "refused" | "cached" | "retried" | "slow";

export interface GridChoices {
  readonly filter: Filter;
  readonly column: Column;
  readonly descending: boolean;
  readonly grouped: boolean;
}

export const FIRST_CHOICES: GridChoices = {
  filter: "all",
  column: "number",
  descending: false,
  grouped: false,
};

export interface GridRow {
  readonly index: CallIndex;
  readonly call: Call;
  /** The calls with the same prompt, this one included; 1 if it is alone. */
  readonly equals: number;
}

/** A call is slow at so many times the median, and at least at so many seconds; as in `dspy-rlm runs diagnose`. */
const SLOW_FACTOR = 5;
const SLOW_SECONDS = 5;

/** Returns the rows. */
export function gridRows(
  journal: Journal,
  indexes: readonly CallIndex[],
  choices: GridChoices,
): GridRow[] {
  const slow = slowSeconds(journal, indexes);
  const inGrid = new Set(indexes);
  const rows: GridRow[] = [];
  const seen = new Set<number>();
  for (const index of indexes) {
    const call = journal.calls[index];
    if (call === undefined || !matches(call, choices.filter, slow)) {
      continue;
    }
    if (choices.grouped && call.group !== null) {
      if (seen.has(call.group)) {
        continue;
      }
      seen.add(call.group);
    }
    const group = call.group === null ? [] : journal.groups[call.group] ?? [];
    rows.push({ index, call, equals: Math.max(1, group.filter((one) => inGrid.has(one)).length) });
  }
  const sign = choices.descending ? -1 : 1;
  const key = KEYS[choices.column];
  if (choices.grouped) {
    rows.sort((one, other) => other.equals - one.equals || one.index - other.index);
  } else {
    rows.sort((one, other) => sign * compare(key(one), key(other)) || one.index - other.index);
  }
  return rows;
}

/** Returns the number of calls that match each filter. */
export function filterCounts(journal: Journal, indexes: readonly CallIndex[]): Map<Filter, number> {
  const slow = slowSeconds(journal, indexes);
  const filters: Filter[] = [
    "all",
    "failed",
    "cut",
    "empty",
    "refused",
    "cached",
    "retried",
    "slow",
  ];
  return new Map(
    filters.map((filter) => [
      filter,
      indexes.filter((index) => {
        const call = journal.calls[index];
        return call !== undefined && matches(call, filter, slow);
      }).length,
    ]),
  );
}

function matches(call: Call, filter: Filter, slow: number): boolean {
  switch (filter) {
    case "all":
      return true;
    case "cached":
      return call.cached;
    case "retried":
      return call.attempts.length > 1;
    case "slow":
      return (call.seconds ?? 0) >= slow;
    default:
      return call.status === filter;
  }
}

function slowSeconds(journal: Journal, indexes: readonly CallIndex[]): number {
  const seconds = indexes
    .map((index) => journal.calls[index]?.seconds ?? null)
    .filter((value) => value !== null)
    .sort((one, other) => one - other);
  const median = seconds[Math.floor(seconds.length / 2)] ?? 0;
  return Math.max(SLOW_SECONDS, median * SLOW_FACTOR);
}

const KEYS: Readonly<Record<Column, (row: GridRow) => number | string | null>> = {
  number: (row) => row.index,
  status: (row) => row.call.status,
  kind: (row) => row.call.kind,
  model: (row) => row.call.model,
  seconds: (row) => row.call.seconds,
  in: (row) => row.call.input_tokens,
  out: (row) => row.call.output_tokens,
  cost: (row) => row.call.cost,
};

/** Unknown values are before all others. */
function compare(one: number | string | null, other: number | string | null): number {
  if (one === null || other === null) {
    return Number(one !== null) - Number(other !== null);
  }
  if (typeof one === "number" && typeof other === "number") {
    return one - other;
  }
  return String(one) < String(other) ? -1 : Number(String(one) > String(other));
}
