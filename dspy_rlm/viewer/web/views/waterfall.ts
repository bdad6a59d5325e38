/**
 * The waterfall: one row for a step, an LM call or a cell, each a bar on the time axis of the run.
 *
 * The critical path, the chain that the run waited for, is a darker line in the bars.
 */

import type { Part, Step } from "../document/format.ts";
import type { Context } from "../shell/context.ts";
import { h, style } from "../ui/dom.ts";
import { iconButton, nothing } from "../ui/parts.ts";
import { VirtualList } from "../ui/virtual_list.ts";
import type { Range } from "./waterfall_axis.ts";
import { dragToZoom, drawTicks, rangeOfKey } from "./waterfall_axis.ts";
import type { Row } from "./waterfall_rows.ts";
import { Rows } from "./waterfall_rows.ts";

const ROW_HEIGHT = 24;

/** Visible rows of a step's own list. */
const COMPACT_ROWS = 14;

/** The most bars of a batch that are drawn: more would not be visible anyway. */
const MOST_BARS = 300;

/** Steps of runs with more calls than this begin folded. */
const MANY_CALLS = 150;

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
  const whole: Range = options.step === undefined
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
  readonly #whole: Range;
  readonly #axis = h("div", { class: "axis" });
  readonly #list: VirtualList;
  /** Numbers of steps that are folded, and keys of batches that are not. */
  readonly #folded: Set<number | string>;
  readonly #source: Rows;
  #range: Range;
  #rows: Row[] = [];

  constructor(context: Context, options: WaterfallOptions, whole: Range) {
    this.#context = context;
    this.#options = options;
    this.#whole = whole;
    this.#range = whole;
    const many =
      context.run.steps.reduce((sum, step) => sum + step.sub_calls.length, 0) > MANY_CALLS;
    this.#folded =
      context.choices.get(`folded-${context.journalIndex}-${context.runIndex}`, null) ??
        new Set(many ? context.run.steps.map((step) => step.number) : []);
    this.#source = new Rows(context, whole[1] - whole[0]);
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
    dragToZoom(this.#axis, (left, right) => {
      const [from, to] = this.#range;
      this.#zoom([from + left * (to - from), from + right * (to - from)]);
    });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.#build();
  }

  #build(): void {
    this.#rows = this.#source.of(this.#options.step, this.#folded);
    if (this.#options.compact === true) {
      const rows = Math.min(COMPACT_ROWS, this.#rows.length);
      style(this.#list.element, { height: `${rows * ROW_HEIGHT + 2}px` });
    }
    this.element.classList.toggle("zoomed", this.#range !== this.#whole);
    drawTicks(this.#axis, this.#range, this.#whole[0]);
    this.#list.reset(this.#rows.length);
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

  #zoom(range: Range): void {
    this.#range = range;
    this.#build();
  }

  #key(event: KeyboardEvent): void {
    const range = rangeOfKey(event.key, this.#range, this.#whole);
    if (range !== null) {
      this.#zoom(range);
      event.preventDefault();
      event.stopPropagation();
    }
  }
}
