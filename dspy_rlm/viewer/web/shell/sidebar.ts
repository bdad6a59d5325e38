/**
 * The tree at the side: runs and steps, by mouse and by keyboard as the ARIA pattern for trees has it.
 */

import type { Journal } from "../document/format.ts";
import { duration } from "../text/numbers.ts";
import { h, style } from "../ui/dom.ts";
import type { IconName } from "../ui/icons.ts";
import { named } from "../ui/parts.ts";
import { VirtualList } from "../ui/virtual_list.ts";
import { keyOf, type Row, rowsOf } from "./outline.ts";
import { linkTo } from "./route.ts";

const ROW_HEIGHT = 28;

const STATES: Readonly<Record<Row["state"], readonly [IconName, string]>> = {
  good: ["check", "completed"],
  bad: ["cross", "failed"],
  warn: ["warning", "incomplete"],
  running: ["half", "running"],
  submitted: ["flag", "submitted"],
  quiet: ["dot", ""],
};

/** Steps in a run from which on sub-runs begin folded. */
const MANY_ROWS = 400;

export class Sidebar {
  readonly element: HTMLElement;
  readonly #list: VirtualList;
  readonly #go: (link: string) => void;
  readonly #folded = new Set<string>();
  #journals: readonly Journal[] = [];
  #rows: Row[] = [];
  #current = "";
  /** The row that has the focus, or gets it. */
  #active = 0;

  constructor(go: (link: string) => void) {
    this.#go = go;
    this.#list = new VirtualList({
      rowHeight: ROW_HEIGHT,
      render: (index) => this.#row(index),
      className: "tree",
    });
    const tree = this.#list.element;
    tree.setAttribute("role", "tree");
    tree.setAttribute("aria-label", "Runs and steps");
    tree.addEventListener("keydown", (event) => this.#key(event));
    this.element = tree;
  }

  /** Sets the journals of a document, also of a newer one. */
  update(journals: readonly Journal[]): void {
    if (this.#journals.length === 0) {
      this.#foldMany(journals);
    }
    this.#journals = journals;
    this.#draw();
  }

  /** Marks the row of the page that is open, and scrolls it into view. */
  select(journal: number, id: string): void {
    this.#current = keyOf({ journal, id });
    this.#unfoldAbove(journal, id);
    this.#draw();
    const index = this.#rows.findIndex((row) => keyOf(row) === this.#current);
    if (index >= 0) {
      this.#active = index;
      this.#list.reset(this.#rows.length);
      this.#list.reveal(index);
    }
  }

  /** Returns the permalink of the step before or after the open page; null at the end. */
  neighbour(offset: 1 | -1): string | null {
    const at = this.#rows.findIndex((row) => keyOf(row) === this.#current);
    const row = this.#rows[at + offset];
    return row === undefined ? null : linkTo(row.journal, row.id);
  }

  #foldMany(journals: readonly Journal[]): void {
    const steps = journals.flatMap((journal) => journal.runs).reduce(
      (sum, run) => sum + run.steps.length,
      0,
    );
    if (steps > MANY_ROWS) {
      journals.forEach((journal, index) =>
        journal.runs.forEach((_, run) => {
          if (run > 0) {
            this.#folded.add(keyOf({ journal: index, id: `r${run}` }));
          }
        })
      );
    }
  }

  #unfoldAbove(journal: number, id: string): void {
    const runs = this.#journals[journal]?.runs;
    let run = Number(/^r(\d+)/.exec(id)?.[1] ?? 0);
    if (id.includes("-s")) {
      this.#folded.delete(keyOf({ journal, id: `r${run}` }));
    }
    for (let above = runs?.[run]?.parent; above !== null && above !== undefined;) {
      this.#folded.delete(keyOf({ journal, id: `r${above}` }));
      this.#folded.delete(keyOf({ journal, id: `r${above}-s${runs?.[run]?.parent_step}` }));
      run = above;
      above = runs?.[run]?.parent;
    }
  }

  #draw(): void {
    this.#rows = rowsOf(this.#journals, this.#folded);
    this.#active = Math.min(this.#active, Math.max(0, this.#rows.length - 1));
    this.#list.reset(this.#rows.length);
  }

  #row(index: number): HTMLElement {
    const row = this.#rows[index];
    if (row === undefined) {
      return h("div");
    }
    const [name, word] = STATES[row.state];
    const current = keyOf(row) === this.#current;
    const meter = h(
      "span",
      { class: "tree-meter", "aria-hidden": "true" },
      style(h("span"), { width: `${Math.max(0, Math.min(1, row.share)) * 100}%` }),
    );
    const element = h(
      "div",
      {
        role: "treeitem",
        class: `tree-row ${row.step === null ? "is-run" : "is-step"}${current ? " current" : ""}`,
        "aria-level": row.level,
        "aria-expanded": row.open === null ? null : String(row.open),
        "aria-selected": String(current),
        "aria-setsize": -1,
        "aria-posinset": index + 1,
        tabindex: index === this.#active ? 0 : -1,
        onclick: (event: MouseEvent) => this.#click(event, index),
        onfocus: () => this.#activate(index),
      },
      h(
        "span",
        { class: "caret", "aria-hidden": "true" },
        row.open === null ? null : named("right"),
      ),
      h("span", { class: `state ${row.state}`, title: word }, named(name)),
      h("span", { class: "visually-hidden" }, `${word} `),
      h("span", { class: "tree-label" }, row.label),
      row.error === ""
        ? h("span", { class: "tree-detail" }, row.detail)
        : h("span", { class: "tree-detail bad" }, row.error),
      row.step === null ? null : meter,
      h("span", { class: "tree-time" }, row.seconds === null ? "" : duration(row.seconds)),
    );
    return style(element, { "padding-left": `${(row.level - 1) * 14 + 6}px` });
  }

  #click(event: MouseEvent, index: number): void {
    const row = this.#rows[index];
    if (row === undefined) {
      return;
    }
    const onCaret = event.target instanceof Element && event.target.closest(".caret") !== null;
    if (onCaret && row.open !== null) {
      this.#fold(index, row.open);
    } else {
      this.#go(linkTo(row.journal, row.id));
    }
  }

  #activate(index: number): void {
    if (index !== this.#active) {
      this.#list.row(this.#active)?.setAttribute("tabindex", "-1");
      this.#active = index;
      this.#list.row(index)?.setAttribute("tabindex", "0");
    }
  }

  #fold(index: number, fold: boolean): void {
    const row = this.#rows[index];
    if (row === undefined) {
      return;
    }
    if (fold) {
      this.#folded.add(keyOf(row));
    } else {
      this.#folded.delete(keyOf(row));
    }
    this.#draw();
  }

  #focus(index: number): void {
    if (index >= 0 && index < this.#rows.length) {
      this.#list.reveal(index)?.focus({ preventScroll: true });
    }
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const index = this.#active;
    const row = this.#rows[index];
    if (row === undefined) {
      return;
    }
    switch (event.key) {
      case "ArrowDown":
        this.#focus(index + 1);
        break;
      case "ArrowUp":
        this.#focus(index - 1);
        break;
      case "Home":
        this.#focus(0);
        break;
      case "End":
        this.#focus(this.#rows.length - 1);
        break;
      case "ArrowRight":
        if (row.open === false) {
          this.#fold(index, false);
        } else if (row.open === true) {
          this.#focus(index + 1);
        }
        break;
      case "ArrowLeft":
        if (row.open === true) {
          this.#fold(index, true);
        } else {
          this.#focus(
            this.#rows.findLastIndex((other, at) => at < index && other.level < row.level),
          );
        }
        break;
      case "Enter":
      case " ":
        this.#go(linkTo(row.journal, row.id));
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
