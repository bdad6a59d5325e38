/**
 * The waterfall: one row for a step, an LM call or a cell, each a bar on the time axis of the run.
 *
 * The critical path, the chain that the run waited for, is a darker line in the bars.
 */

import type { CallIndex, Part, Segment, Step } from "../document/format.ts";
import type { Context } from "../shell/context.ts";
import { link, runName, stepLink } from "../shell/context.ts";
import { callsAt } from "../document/store.ts";
import { count, duration } from "../text/numbers.ts";
import { plain } from "../text/visible.ts";
import { fill, h, style } from "../ui/dom.ts";
import { iconButton, nothing } from "../ui/parts.ts";
import { VirtualList } from "../ui/virtual_list.ts";

const ROW_HEIGHT = 24;

/** Visible rows of a step's own list. */
const COMPACT_ROWS = 14;

/** So many calls of one function call, or more, are one row. */
const LEAST_BATCH = 4;

/** The most bars of a batch that are drawn: more would not be visible anyway. */
const MOST_BARS = 300;

/** The part of a run's time from which on the time before its first step is a row. */
const LEAST_START_UP = 0.01;

/** Steps of runs with more calls than this begin folded. */
const MANY_CALLS = 150;

interface Bar {
  readonly part: Part;
  readonly start: number;
  readonly end: number;
}

interface Row {
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

export const PART_NAMES: Readonly<Record<Part, string>> = {
  root: "Root LM",
  sandbox: "Sandbox",
  sub: "Sub-LMs",
  tool: "Tools",
  other: "Start-up and other",
};

export interface WaterfallOptions {
  /** One step only; without it all steps of the run. */
  readonly step?: Step;
  /** True: as high as its rows. */
  readonly compact?: boolean;
}

/** Returns the list. */
export function waterfall(context: Context, options: WaterfallOptions): HTMLElement {
  const { run } = context;
  const whole: [number, number] = options.step === undefined
    ? [run.started, run.started + (run.seconds ?? endOf(context))]
    : [options.step.started, options.step.started + options.step.seconds];
  if (whole[1] <= whole[0]) {
    return nothing("No time was recorded.");
  }
  return new Waterfall(context, options, whole).element;
}

function endOf(context: Context): number {
  const last = context.run.steps.at(-1);
  return last === undefined ? 0 : last.started + last.seconds - context.run.started;
}

class Waterfall {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #options: WaterfallOptions;
  readonly #whole: readonly [number, number];
  readonly #axis = h("div", { class: "axis" });
  readonly #list: VirtualList;
  /** Numbers of steps that are folded, and keys of batches that are not. */
  readonly #folded: Set<number | string>;
  readonly #critical = new Map<string, [number, number][]>();
  #range: readonly [number, number];
  #rows: Row[] = [];

  constructor(context: Context, options: WaterfallOptions, whole: [number, number]) {
    this.#context = context;
    this.#options = options;
    this.#whole = whole;
    this.#range = whole;
    const many =
      context.run.steps.reduce((sum, step) => sum + step.sub_calls.length, 0) > MANY_CALLS;
    this.#folded =
      context.choices.get(`folded-${context.journalIndex}-${context.runIndex}`, null) ??
        new Set(many ? context.run.steps.map((step) => step.number) : []);
    for (const segment of context.journal.time.critical) {
      this.#addCritical(segment);
    }
    this.#list = new VirtualList({
      rowHeight: ROW_HEIGHT,
      render: (index) => this.#row(index),
      className: "waterfall-rows",
    });
    this.#list.element.setAttribute("role", "list");
    this.#list.element.setAttribute("aria-label", "Time of each part");
    this.#list.element.tabIndex = 0;
    this.element = h(
      "div",
      { class: `waterfall${options.compact === true ? " compact" : ""}` },
      h(
        "div",
        { class: "waterfall-head" },
        h(
          "div",
          { class: "waterfall-tools" },
          iconButton("cross", "Show the whole time", () => this.#zoom(this.#whole), "zoom-out"),
        ),
        this.#axis,
      ),
      this.#list.element,
    );
    this.#dragToZoom();
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.#build();
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

  #build(): void {
    const { run } = this.#context;
    this.#rows = [];
    if (this.#options.step !== undefined) {
      this.#addParts(this.#options.step, 0);
    } else {
      this.#addStartUp();
      this.#addCalls(run.setup, 0);
      for (const step of run.steps) {
        this.#addStep(step);
      }
      this.#addCalls(run.extraction, 0);
    }
    if (this.#options.compact === true) {
      const rows = Math.min(COMPACT_ROWS, this.#rows.length);
      style(this.#list.element, { height: `${rows * ROW_HEIGHT + 2}px` });
    }
    this.element.classList.toggle("zoomed", this.#range !== this.#whole);
    this.#drawAxis();
    this.#list.reset(this.#rows.length);
  }

  #addStartUp(): void {
    const { run, runIndex } = this.#context;
    const seconds = (run.steps[0]?.started ?? run.started) - run.started;
    if (seconds > (this.#whole[1] - this.#whole[0]) * LEAST_START_UP) {
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

  #row(index: number): HTMLElement {
    const row = this.#rows[index];
    if (row === undefined) {
      return h("div", { role: "listitem" });
    }
    const fold = row.open === null ? h("span", { class: "caret" }) : iconButton(
      "right",
      row.open ? `Fold ${row.label}` : `Unfold ${row.label}`,
      () => this.#fold(row),
      `caret${row.open ? " open" : ""}`,
    );
    const track = h("div", { class: "track" });
    const crowd = row.bars.length > 1 && row.key.startsWith("batch-");
    const every = Math.ceil(row.bars.length / MOST_BARS);
    for (const one of row.bars.filter((_, at) => at % every === 0)) {
      const failed = row.failed && !crowd ? " failed" : "";
      this.#place(track, `bar ${one.part}${failed}${crowd ? " crowd" : ""}`, one.start, one.end);
    }
    for (const [start, end] of row.critical) {
      this.#place(track, "critical", start, end);
    }
    const label = style(
      h(
        "div",
        { class: "waterfall-label" },
        fold,
        h("a", { href: row.href, class: row.failed ? "bad" : "" }, row.label),
        h("span", { class: "waterfall-time" }, row.detail),
      ),
      { "padding-left": `${row.level * 14}px` },
    );
    return h("div", { class: "waterfall-row", role: "listitem" }, label, track);
  }

  #fold(row: Row): void {
    const isBatch = row.key.startsWith("batch-");
    const key = isBatch ? row.key : Number(row.key.slice(1));
    if ((row.open === true) === isBatch) {
      this.#folded.delete(key);
    } else {
      this.#folded.add(key);
    }
    const { choices, journalIndex, runIndex } = this.#context;
    choices.set(`folded-${journalIndex}-${runIndex}`, this.#folded);
    this.#build();
  }

  #place(track: HTMLElement, className: string, start: number, end: number): void {
    const [from, to] = this.#range;
    if (end < from || start > to) {
      return;
    }
    const left = Math.max(0, (start - from) / (to - from));
    const right = Math.min(1, (end - from) / (to - from));
    track.append(
      style(h("span", { class: className }), {
        left: `${left * 100}%`,
        width: `max(2px, ${(right - left) * 100}%)`,
      }),
    );
  }

  #drawAxis(): void {
    const [from, to] = this.#range;
    fill(
      this.#axis,
      ticks(to - from, from - this.#whole[0]).map((tick) =>
        style(h("span", { class: "tick" }, duration(tick).replace(/\.?0+ s$/, " s")), {
          left: `${((tick + this.#whole[0] - from) / (to - from)) * 100}%`,
        })
      ),
    );
  }

  #zoom(range: readonly [number, number]): void {
    this.#range = range;
    this.#build();
  }

  /** `+` and `-` zoom, `<` and `>` move, `0` shows the whole. */
  #key(event: KeyboardEvent): void {
    const [from, to] = this.#range;
    const span = to - from;
    const show = (start: number, width: number): void => {
      const [first, last] = this.#whole;
      const most = Math.min(width, last - first);
      const begin = Math.max(first, Math.min(start, last - most));
      this.#zoom(most >= last - first ? this.#whole : [begin, begin + most]);
    };
    switch (event.key) {
      case "+":
        show(from + span / 4, span / 2);
        break;
      case "-":
        show(from - span / 2, span * 2);
        break;
      case "<":
        show(from - span / 2, span);
        break;
      case ">":
        show(from + span / 2, span);
        break;
      case "0":
        this.#zoom(this.#whole);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #dragToZoom(): void {
    const axis = this.#axis;
    let start: number | null = null;
    const selection = h("span", { class: "selection" });
    const at = (event: PointerEvent): number => {
      const { left, width } = axis.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - left) / width));
    };
    axis.title = "Drag to zoom in";
    axis.addEventListener("pointerdown", (event) => {
      start = at(event);
      axis.setPointerCapture(event.pointerId);
      axis.append(selection);
    });
    axis.addEventListener("pointermove", (event) => {
      if (start !== null) {
        const [left, right] = [Math.min(start, at(event)), Math.max(start, at(event))];
        style(selection, { left: `${left * 100}%`, width: `${(right - left) * 100}%` });
      }
    });
    axis.addEventListener("pointerup", (event) => {
      if (start === null) {
        return;
      }
      const [left, right] = [Math.min(start, at(event)), Math.max(start, at(event))];
      start = null;
      selection.remove();
      const [from, to] = this.#range;
      if (right - left > 0.01) {
        this.#zoom([from + left * (to - from), from + right * (to - from)]);
      }
    });
  }
}

function bar(part: Part, start: number, seconds: number): Bar {
  return { part, start, end: start + seconds };
}

/** Returns round times for an axis, relative to the start of the whole. */
function ticks(span: number, offset: number): number[] {
  const rough = span / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const found: number[] = [];
  for (let tick = Math.ceil(offset / step) * step; tick <= offset + span * 0.93; tick += step) {
    found.push(tick);
  }
  return found;
}
