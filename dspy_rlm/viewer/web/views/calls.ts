/**
 * The grid of calls: status, latency, tokens and cost of each; its prompt and its answer beside it.
 */

import type { Call, CallIndex } from "../document/format.ts";
import { sumOf } from "../document/store.ts";
import type { Context } from "../shell/context.ts";
import { link } from "../shell/context.ts";
import { appendVisible, visible } from "../text/lines.ts";
import { count, dollars, duration, integer, largest, short, total } from "../text/numbers.ts";
import { plain } from "../text/visible.ts";
import type { Child } from "../ui/dom.ts";
import { fill, h, style } from "../ui/dom.ts";
import { nothing } from "../ui/parts.ts";
import { VirtualList } from "../ui/virtual_list.ts";
import { callDetail, callPill } from "./call.ts";
import {
  type Column,
  type Filter,
  filterCounts,
  FIRST_CHOICES,
  type GridChoices,
  gridRows,
} from "./call_rows.ts";

const ROW_HEIGHT = 30;

/** Characters of a prompt that a row shows. */
const PREVIEW_CHARS = 160;

/** The columns; the one without a key is not sorted by. */
const COLUMNS: readonly (readonly [Column | null, string, string])[] = [
  ["number", "#", "num"],
  ["status", "Status", ""],
  ["kind", "Function", ""],
  [null, "Prompt", "prompt"],
  ["model", "Model", ""],
  ["seconds", "Latency", "num"],
  ["in", "Tokens in", "num"],
  ["out", "Tokens out", "num"],
  ["cost", "Cost", "num"],
];

/** Returns the view of some calls; `selected` is the one whose prompt and answer are shown. */
export function callsView(
  context: Context,
  indexes: readonly CallIndex[],
  selected: CallIndex | null,
  above: Child = null,
): HTMLElement {
  if (indexes.length === 0) {
    return h("div", { class: "view" }, above, nothing("No LM calls here."));
  }
  return h(
    "div",
    { class: "view calls-view" },
    above,
    new Grid(context, indexes, selected).element,
  );
}

/** Returns choices that a person made in another grid, without a filter that lets nothing through here. */
function fitting(choices: GridChoices, counts: ReadonlyMap<Filter, number>): GridChoices {
  return (counts.get(choices.filter) ?? 0) > 0 ? choices : { ...choices, filter: "all" };
}

class Grid {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #indexes: readonly CallIndex[];
  readonly #list: VirtualList;
  readonly #head = h("div", { class: "grid-row grid-head", role: "row", "aria-rowindex": 1 });
  readonly #bar = h("div", { class: "view-bar" });
  readonly #detail = h("div", { class: "call-detail", tabindex: -1 });
  readonly #grid: HTMLElement;
  readonly #slowest: number;
  #choices: GridChoices;
  #rows: ReturnType<typeof gridRows> = [];
  #selected: CallIndex | null;
  #active = 0;

  constructor(context: Context, indexes: readonly CallIndex[], selected: CallIndex | null) {
    this.#context = context;
    this.#indexes = indexes;
    this.#selected = selected;
    this.#choices = fitting(
      context.choices.get("grid", FIRST_CHOICES),
      filterCounts(context.journal, indexes),
    );
    this.#slowest = largest(
      indexes.map((index) => context.journal.calls[index]?.seconds ?? 0),
      1e-9,
    );
    this.#list = new VirtualList({
      rowHeight: ROW_HEIGHT,
      render: (index) => this.#row(index),
      className: "grid-rows",
    });
    this.#list.element.setAttribute("role", "rowgroup");
    this.#grid = h(
      "div",
      { class: "grid", role: "grid", "aria-label": "LM calls", "aria-multiselectable": "false" },
      h("div", { role: "rowgroup", class: "grid-head-group" }, this.#head),
      this.#list.element,
    );
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
    this.element = h(
      "div",
      { class: "calls" },
      this.#bar,
      h("div", { class: "calls-split" }, this.#grid, this.#detail),
    );
    this.#draw();
    if (selected !== null) {
      this.#active = Math.max(0, this.#rows.findIndex((row) => row.index === selected));
      this.#showDetail(selected);
      // The list has its height only once it is in the page.
      requestAnimationFrame(() => this.#list.reveal(this.#active));
    }
  }

  #choose(choices: Partial<GridChoices>): void {
    this.#choices = { ...this.#choices, ...choices };
    this.#context.choices.set("grid", this.#choices);
    this.#draw();
  }

  #draw(): void {
    const { journal } = this.#context;
    this.#rows = gridRows(journal, this.#indexes, this.#choices);
    this.#active = Math.min(this.#active, Math.max(0, this.#rows.length - 1));
    this.#grid.setAttribute("aria-rowcount", String(this.#rows.length + 1));
    this.#drawBar();
    this.#drawHead();
    style(this.#list.element, { "--rows": `${Math.max(1, this.#rows.length) * ROW_HEIGHT}px` });
    this.#list.reset(this.#rows.length);
  }

  #drawBar(): void {
    const { journal } = this.#context;
    const counts = filterCounts(journal, this.#indexes);
    const sum = sumOf(this.#rows.map((row) => row.call));
    const filter = (name: Filter, number: number): HTMLElement =>
      h(
        "button",
        {
          type: "button",
          class: "filter",
          "aria-pressed": String(this.#choices.filter === name),
          onclick: () => this.#choose({ filter: name }),
        },
        name,
        h("span", { class: "count" }, integer(number)),
      );
    const repeated = this.#indexes.some((index) => (journal.calls[index]?.group ?? null) !== null);
    fill(
      this.#bar,
      h(
        "div",
        { class: "filters", role: "group", "aria-label": "Which calls to show" },
        [...counts].filter(([name, number]) => number > 0 || name === "all").map(([name, number]) =>
          filter(name, number)
        ),
        repeated
          ? h(
            "button",
            {
              type: "button",
              class: "filter",
              "aria-pressed": String(this.#choices.grouped),
              onclick: () => this.#choose({ grouped: !this.#choices.grouped }),
            },
            "group equal prompts",
          )
          : null,
      ),
      h(
        "p",
        { class: "quiet" },
        `${count(sum.calls, "call")} \u00b7 ${total(sum.inputTokens, short)} tokens in \u00b7 ` +
          `${total(sum.outputTokens, short)} out \u00b7 ${total(sum.cost, dollars)}`,
      ),
    );
  }

  #drawHead(): void {
    const { column, descending } = this.#choices;
    fill(
      this.#head,
      COLUMNS.map(([name, label, className]) =>
        name === null ? h("div", { role: "columnheader", class: `cell ${className}` }, label) : h(
          "div",
          {
            role: "columnheader",
            class: `cell ${name} ${className}`,
            "aria-sort": name !== column ? "none" : descending ? "descending" : "ascending",
          },
          h(
            "button",
            {
              type: "button",
              onclick: () =>
                this.#choose({
                  column: name,
                  descending: name === column
                    ? !descending
                    : name !== "number" && className === "num",
                }),
            },
            label,
            name === column
              ? h("span", { "aria-hidden": "true" }, descending ? " \u2193" : " \u2191")
              : null,
          ),
        )
      ),
    );
  }

  #row(index: number): HTMLElement {
    const row = this.#rows[index];
    if (row === undefined) {
      return h("div", { role: "row" }, h("div", { role: "gridcell" }));
    }
    const { call } = row;
    const cell = (name: string, className: string, ...children: Child[]): HTMLElement =>
      h("div", { role: "gridcell", class: `cell ${name} ${className}` }, ...children);
    const latency = style(h("span", { class: "cell-bar", "aria-hidden": "true" }), {
      width: `${((call.seconds ?? 0) / this.#slowest) * 100}%`,
    });
    const selected = row.index === this.#selected;
    return h(
      "div",
      {
        role: "row",
        class: `grid-row${selected ? " current" : ""}`,
        "aria-rowindex": index + 2,
        "aria-selected": String(selected),
        tabindex: index === this.#active ? 0 : -1,
        onclick: () => this.#select(index),
        onfocus: () => this.#activate(index),
      },
      cell("number", "num", row.index),
      cell(
        "status",
        "",
        callPill(call),
        call.attempts.length > 1
          ? h("span", { class: "tries" }, `${call.attempts.length} tries`)
          : null,
        row.equals > 1
          ? h("span", { class: "equals", title: "equal prompts" }, `\u00d7${row.equals}`)
          : null,
      ),
      cell("kind", "", visible(plain(call.kind, 60))),
      cell("prompt", "quiet", this.#preview(call)),
      cell("model", "", visible(plain(call.model, 80))),
      cell("seconds", "num", latency, h("span", {}, duration(call.seconds))),
      cell("in", "num", short(call.input_tokens)),
      cell("out", "num", short(call.output_tokens)),
      cell("cost", "num", dollars(call.cost)),
    );
  }

  /** Returns the beginning of the last message of a prompt; a longer one is there a moment later. */
  #preview(call: Call): HTMLElement {
    const { journal, store } = this.#context;
    const messages = call.prompt === null ? [] : journal.prompts[call.prompt]?.messages ?? [];
    const content = messages.at(-1)?.content ?? "";
    const element = h("span", {});
    if (typeof content === "string") {
      appendVisible(element, plain(content, PREVIEW_CHARS));
    } else {
      store.texts.start(content, PREVIEW_CHARS).then(
        (start) => appendVisible(element, plain(start, PREVIEW_CHARS)),
        () => {},
      );
    }
    return element;
  }

  #activate(index: number): void {
    if (index !== this.#active) {
      this.#list.row(this.#active)?.setAttribute("tabindex", "-1");
      this.#active = index;
      this.#list.row(index)?.setAttribute("tabindex", "0");
    }
  }

  #select(index: number): void {
    const row = this.#rows[index];
    if (row === undefined) {
      return;
    }
    const old = this.#rows.findIndex((one) => one.index === this.#selected);
    this.#selected = row.index;
    this.#activate(index);
    this.#list.refresh(old);
    this.#list.refresh(index);
    this.#list.row(index)?.focus({ preventScroll: true });
    this.#showDetail(row.index);
    this.#rename([row.index]);
  }

  #rename(rest: readonly number[]): void {
    const { runIndex, step } = this.#context;
    const target = step === undefined
      ? { kind: "run", run: runIndex } as const
      : { kind: "step", run: runIndex, step: step.number } as const;
    this.#context.rename(link(this.#context, target, "calls", rest));
  }

  #showDetail(index: CallIndex): void {
    this.element.classList.add("with-detail");
    fill(
      this.#detail,
      callDetail(this.#context, index, {
        close: () => {
          this.element.classList.remove("with-detail");
          fill(this.#detail);
          this.#selected = null;
          this.#rename([]);
          this.#list.reset(this.#rows.length);
          this.#list.row(this.#active)?.focus();
        },
      }),
    );
  }

  #key(event: KeyboardEvent): void {
    const onRow = event.target instanceof HTMLElement &&
      event.target.matches(".grid-rows .grid-row");
    if (!onRow || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const to = (index: number): void => {
      if (index >= 0 && index < this.#rows.length) {
        this.#list.reveal(index)?.focus({ preventScroll: true });
      }
    };
    switch (event.key) {
      case "ArrowDown":
        to(this.#active + 1);
        break;
      case "ArrowUp":
        to(this.#active - 1);
        break;
      case "Home":
        to(0);
        break;
      case "End":
        to(this.#rows.length - 1);
        break;
      case "PageDown":
        to(Math.min(this.#rows.length - 1, this.#active + 15));
        break;
      case "PageUp":
        to(Math.max(0, this.#active - 15));
        break;
      case "Enter":
      case " ":
        this.#select(this.#active);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
