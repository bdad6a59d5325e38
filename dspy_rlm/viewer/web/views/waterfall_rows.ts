/**
 * The rows of the waterfall: which bars a run has, and which of its steps and batches are folded. Draws nothing.
 */

import type { CallIndex, Part, Segment, Step } from "../document/format.ts";
import type { Context } from "../shell/context.ts";
import { link, runName, stepLink } from "../shell/context.ts";
import { callsAt } from "../document/store.ts";
import { count, duration } from "../text/numbers.ts";
import { plain } from "../text/visible.ts";

/** So many calls of one function call, or more, are one row. */
const LEAST_BATCH = 4;

/** The part of a run's time from which on the time before its first step is a row. */
const LEAST_START_UP = 0.01;

export interface Bar {
  readonly part: Part;
  readonly start: number;
  readonly end: number;
}

export interface Row {
  readonly key: string;
  readonly level: number;
  readonly label: string;
  readonly detail: string;
  readonly href: string;
  readonly bars: readonly Bar[];
  readonly critical: readonly (readonly [number, number])[];
  readonly failed: boolean;
  readonly open: boolean | null;
}

/** Numbers of steps that are folded, and keys of batches that are not. */
export type Folded = ReadonlySet<number | string>;

/** Collects the rows of a run, or of one of its steps. */
export class Rows {
  readonly #context: Context;
  readonly #seconds: number;
  readonly #critical = new Map<string, [number, number][]>();
  #folded: Folded = new Set();
  #rows: Row[] = [];

  /** `seconds`: of the whole axis. */
  constructor(context: Context, seconds: number) {
    this.#context = context;
    this.#seconds = seconds;
    for (const segment of context.journal.time.critical) {
      this.#addCritical(segment);
    }
  }

  /** Returns the rows of a step; without one, of the whole run. */
  of(step: Step | undefined, folded: Folded): Row[] {
    const { run } = this.#context;
    this.#folded = folded;
    this.#rows = [];
    if (step !== undefined) {
      this.#addParts(step, 0);
    } else {
      this.#addStartUp();
      this.#addCalls(run.setup, 0);
      for (const one of run.steps) {
        this.#addStep(one);
      }
      this.#addCalls(run.extraction, 0);
    }
    return this.#rows;
  }

  #addCritical(segment: Segment): void {
    const below = this.#childOf(segment.run);
    if (below === null) {
      return;
    }
    const key = below !== this.#context.runIndex
      ? `r${below}`
      : segment.call !== null
      ? `c${segment.call}`
      : segment.tool !== null
      ? `t${segment.tool}`
      : `${segment.part}${segment.step}`;
    const known = this.#critical.get(key) ?? [];
    known.push([segment.start, segment.end]);
    this.#critical.set(key, known);
  }

  /** Returns the run itself, or the sub-run of it that a run is in; null for a run that is elsewhere. */
  #childOf(run: number): number | null {
    const { runs } = this.#context.journal;
    for (let at: number | null | undefined = run; at !== null && at !== undefined;) {
      const above: number | null | undefined = runs[at]?.parent;
      if (at === this.#context.runIndex || above === this.#context.runIndex) {
        return at;
      }
      at = above;
    }
    return null;
  }

  #addStartUp(): void {
    const { run, runIndex } = this.#context;
    const seconds = (run.steps[0]?.started ?? run.started) - run.started;
    if (seconds > this.#seconds * LEAST_START_UP) {
      this.#rows.push({
        key: "start-up",
        level: 0,
        label: "Start-up",
        detail: duration(seconds),
        href: link(this.#context, { kind: "run", run: runIndex }, "setup"),
        bars: [bar("other", run.started, seconds)],
        critical: (this.#critical.get("othernull") ?? [])
          .filter(([start]) => start < run.started + seconds),
        failed: false,
        open: null,
      });
    }
  }

  #addStep(step: Step): void {
    const open = !this.#folded.has(step.number);
    const parts = [...step.root_calls, ...step.sub_calls].length + step.sub_runs.length;
    this.#rows.push({
      key: `s${step.number}`,
      level: 0,
      label: `Step ${step.number}`,
      detail: duration(step.seconds),
      href: stepLink(this.#context, step.number),
      bars: open ? [bar("other", step.started, step.seconds)] : this.#allBars(step),
      critical: [],
      failed: step.outcome === "failed",
      open: parts === 0 && step.cell_started === null ? null : open,
    });
    if (open) {
      this.#addParts(step, 1);
    }
  }

  #allBars(step: Step): Bar[] {
    const bars = [bar("other", step.started, step.seconds)];
    if (step.cell_started !== null) {
      bars.push(bar("sandbox", step.cell_started, step.cell_seconds ?? 0));
    }
    for (const index of [...step.root_calls, ...step.sub_calls]) {
      const call = this.#context.journal.calls[index];
      if (call !== undefined) {
        bars.push(bar(call.is_sub_call ? "sub" : "root", call.started, call.seconds ?? 0));
      }
    }
    return bars;
  }

  #addParts(step: Step, level: number): void {
    const { journal } = this.#context;
    this.#addCalls(step.root_calls, level);
    if (step.cell_started !== null) {
      this.#rows.push({
        key: `cell${step.number}`,
        level,
        label: "Cell",
        detail: duration(step.cell_seconds),
        href: stepLink(this.#context, step.number),
        bars: [bar("sandbox", step.cell_started, step.cell_seconds ?? 0)],
        critical: this.#critical.get(`sandbox${step.number}`) ?? [],
        failed: step.outcome === "failed",
        open: null,
      });
    }
    for (const index of step.tools) {
      const tool = journal.tools[index];
      if (tool !== undefined && tool.is_tool) {
        this.#rows.push({
          key: `t${index}`,
          level: level + 1,
          label: plain(tool.name, 60),
          detail: duration(tool.seconds),
          href: link(this.#context, { kind: "tool", tool: index }),
          bars: [bar("tool", tool.started, tool.seconds ?? 0)],
          critical: this.#critical.get(`t${index}`) ?? [],
          failed: tool.error_type !== "",
          open: null,
        });
      }
    }
    this.#addSubCalls(step, level + 1);
    for (const index of step.sub_runs) {
      const below = journal.runs[index];
      if (below !== undefined) {
        this.#rows.push({
          key: `r${index}`,
          level: level + 1,
          label: runName(index),
          detail: `${count(below.steps.length, "step")}, ${duration(below.seconds)}`,
          href: link(this.#context, { kind: "run", run: index }, "timeline"),
          bars: [bar("sub", below.started, below.seconds ?? 0)],
          critical: this.#critical.get(`r${index}`) ?? [],
          failed: below.status === "failed" || below.status === "crashed",
          open: null,
        });
      }
    }
  }

  /** Calls of one batch are one row, until it is unfolded. */
  #addSubCalls(step: Step, level: number): void {
    const batches = new Map<string, CallIndex[]>();
    for (const index of step.sub_calls) {
      const call = this.#context.journal.calls[index];
      const key = `${call?.tool ?? "none"}-${call?.kind}`;
      const batch = batches.get(key);
      if (batch === undefined) {
        batches.set(key, [index]);
      } else {
        batch.push(index);
      }
    }
    for (const [name, indexes] of batches) {
      if (indexes.length < LEAST_BATCH) {
        this.#addCalls(indexes, level);
      } else {
        this.#addBatch(`batch-${step.number}-${name}`, step, indexes, level);
      }
    }
  }

  #addBatch(key: string, step: Step, indexes: readonly CallIndex[], level: number): void {
    const calls = callsAt(this.#context.journal, indexes);
    const failed = calls.filter((call) => call.status === "failed").length;
    const start = calls.reduce((least, call) => Math.min(least, call.started), Infinity);
    const end = calls.reduce((most, call) => Math.max(most, call.started + (call.seconds ?? 0)), 0);
    const open = this.#folded.has(key);
    this.#rows.push({
      key,
      level,
      label: `${plain(calls[0]?.kind ?? "", 60)} \u00d7${calls.length}`,
      detail: `${failed > 0 ? `${failed} failed, ` : ""}${duration(end - start)}`,
      href: stepLink(this.#context, step.number, "calls"),
      bars: calls.map((call) => bar("sub", call.started, call.seconds ?? 0)),
      critical: indexes.flatMap((index) => this.#critical.get(`c${index}`) ?? []),
      failed: failed > 0,
      open,
    });
    if (open) {
      this.#addCalls(indexes, level + 1);
    }
  }

  #addCalls(indexes: readonly CallIndex[], level: number): void {
    for (const index of indexes) {
      const call = this.#context.journal.calls[index];
      if (call !== undefined) {
        this.#rows.push({
          key: `c${index}`,
          level,
          label: call.is_sub_call ? plain(call.kind, 60) : `Root LM: ${plain(call.kind, 60)}`,
          detail: duration(call.seconds),
          href: link(this.#context, { kind: "call", call: index }),
          bars: [bar(call.is_sub_call ? "sub" : "root", call.started, call.seconds ?? 0)],
          critical: this.#critical.get(`c${index}`) ?? [],
          failed: call.status === "failed",
          open: null,
        });
      }
    }
  }
}

function bar(part: Part, start: number, seconds: number): Bar {
  return { part, start, end: start + seconds };
}
