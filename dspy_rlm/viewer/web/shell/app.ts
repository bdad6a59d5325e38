/**
 * The page as a whole: draws what the address asks for, and draws it again when the document grows.
 */

import type { LiveState } from "../document/live.ts";
import { follow } from "../document/live.ts";
import { patternOf } from "../document/search.ts";
import type { Store } from "../document/store.ts";
import { visible } from "../text/lines.ts";
import { drawAll } from "../text/block.ts";
import { plain } from "../text/visible.ts";
import { fill, h } from "../ui/dom.ts";
import { keepFocus } from "../ui/focus.ts";
import { clearHighlight, highlight } from "../ui/highlight.ts";
import { pill } from "../ui/parts.ts";
import { drawWholeLists } from "../ui/virtual_list.ts";
import { compareView } from "../views/compare.ts";
import { outcomePill, stepButtons } from "../views/step.ts";
import { Choices, type Context, link, runName } from "./context.ts";
import { Header } from "./header.ts";
import { helpDialog } from "./help.ts";
import { toneOf } from "./outline.ts";
import { subjectOf, tabBar, tabsOf } from "./pages.ts";
import { linkTo, parseRoute } from "./route.ts";
import { SearchDialog } from "./search_dialog.ts";
import { Sidebar } from "./sidebar.ts";
import { Strip } from "./strip.ts";
import { openTheme, switchTheme } from "./theme.ts";

export class App {
  readonly #store: Store;
  readonly #root: HTMLElement;
  readonly #choices = new Choices();
  readonly #main = h("main", { class: "main", id: "main", tabindex: -1 });
  readonly #side = h("nav", { class: "side", "aria-label": "Runs and steps" });
  readonly #header: Header;
  readonly #sidebar: Sidebar;
  readonly #strip: Strip;
  readonly #search: SearchDialog;
  readonly #help = helpDialog();
  /** What is drawn: a live page draws a view again only if this changes. */
  #drawn = "";
  /** The number of the last step of the run that is open, as of the last drawing. */
  #newest: number | undefined;

  constructor(store: Store, root: HTMLElement) {
    this.#store = store;
    this.#root = root;
    const go = (to: string): void => this.go(to);
    this.#header = new Header({
      search: () => this.#search.show(),
      theme: () => this.switchTheme(),
      help: () => this.#help.show(),
      menu: () => this.#side.classList.toggle("open"),
    });
    this.#sidebar = new Sidebar(go);
    this.#strip = new Strip(go);
    this.#search = new SearchDialog(store, (to, query) => {
      this.go(to);
      highlight(this.#main, patternOf(query));
    });
  }

  /** Draws the page, and keeps it in step with the address and, if it is live, with the journal. */
  start(): void {
    fill(
      this.#root,
      h(
        "a",
        { class: "skip", href: "#main", onclick: (event: Event) => this.#skip(event) },
        "Skip to the content",
      ),
      this.#header.element,
      this.#strip.element,
      h("div", { class: "body" }, this.#side, this.#main),
      this.#search.dialog.element,
      this.#help.element,
    );
    this.#side.append(this.#sidebar.element);
    this.#root.hidden = false;
    openTheme(() => this.#strip.draw());
    this.#sidebar.update(this.#store.journals);
    this.draw();
    addEventListener("hashchange", () => {
      if (!this.#drawn.startsWith(`${location.hash}\n`)) {
        clearHighlight();
      }
      this.#side.classList.remove("open");
      this.draw();
    });
    addEventListener("beforeprint", () => {
      drawAll(this.#main);
      drawWholeLists(this.#main);
    });
    if (this.#store.document.live) {
      this.#showLive("live");
      follow(this.#store, () => this.#grown(), (state) => this.#showLive(state));
    }
  }

  /** Opens a permalink. */
  go(to: string): void {
    if (to === location.hash) {
      this.draw();
    } else {
      location.hash = to;
      // The event comes later; what follows a link, such as a highlight, needs the view now.
      this.draw();
    }
  }

  #rename(to: string): void {
    const key = this.#drawn.slice(this.#drawn.indexOf("\n"));
    history.replaceState(null, "", to);
    this.#drawn = `${location.hash}${key}`;
  }

  openSearch(): void {
    this.#search.show();
  }

  openHelp(): void {
    this.#help.show();
  }

  switchTheme(): void {
    switchTheme();
    this.#strip.draw();
  }

  /** Closes the tree on a phone. Returns false if it was not open. */
  closeSide(): boolean {
    const open = this.#side.classList.contains("open");
    this.#side.classList.remove("open");
    return open;
  }

  compare(): void {
    if (this.#store.journals.length > 1) {
      this.go(linkTo(0, "compare"));
    }
  }

  /** Opens the row of the tree before or after the open one. */
  move(offset: 1 | -1): void {
    const to = this.#sidebar.neighbour(offset);
    if (to !== null) {
      this.go(to);
    }
  }

  /** Opens the next or previous step that failed. */
  moveToFailed(offset: 1 | -1): void {
    const context = this.#context();
    const failed = context.journal.runs.flatMap((run, index) =>
      run.steps.filter((step) => step.outcome === "failed").map((step) => ({ index, step }))
    ).sort((one, other) => one.step.started - other.step.started);
    const now = context.step?.started ?? (offset === 1 ? -1 : Infinity);
    const next = offset === 1
      ? failed.find(({ step }) => step.started > now)
      : failed.findLast(({ step }) => step.started < now);
    if (next !== undefined) {
      this.go(link(context, { kind: "step", run: next.index, step: next.step.number }));
    }
  }

  /** Opens what is above: the run of a step, the step that started a sub-run. */
  up(): void {
    const context = this.#context();
    if (context.step !== undefined) {
      this.go(link(context, { kind: "run", run: context.runIndex }));
    } else if (context.run.parent !== null) {
      const { parent, parent_step } = context.run;
      this.go(
        link(
          context,
          parent_step === null
            ? { kind: "run", run: parent }
            : { kind: "step", run: parent, step: parent_step },
        ),
      );
    }
  }

  /** Opens a tab by its number, from 1. */
  openTab(number: number): void {
    const tab = this.#main.querySelectorAll<HTMLAnchorElement>(".tabs .tab")[number - 1];
    tab?.click();
  }

  draw(): void {
    const route = parseRoute(location.hash);
    const context = this.#context();
    this.#header.update(this.#store, context.journalIndex);
    const { step, runIndex } = context;
    this.#newest = context.run.steps.at(-1)?.number;
    const id = step === undefined ? `r${runIndex}` : `r${runIndex}-s${step.number}`;
    const compares = route.target.kind === "compare";
    this.#sidebar.select(context.journalIndex, compares ? "compare" : id);
    this.#strip.update(
      context.journal,
      context.journalIndex,
      step === undefined || runIndex !== 0 ? null : [step.started, step.seconds],
    );
    const key = this.#keyOf(context);
    const moved = key.split("\n")[0] !== this.#drawn.split("\n")[0];
    if (key === this.#drawn) {
      return;
    }
    this.#drawn = key;
    const top = moved ? 0 : this.#main.scrollTop;
    const focus = keepFocus(this.#main);
    if (compares) {
      fill(
        this.#main,
        h("div", { class: "page-head" }, h("h1", {}, "Compare")),
        compareView(this.#store),
      );
    } else {
      this.#drawPage(context);
    }
    this.#main.scrollTop = top;
    if (!moved) {
      focus();
    }
  }

  #drawPage(context: Context): void {
    const subject = subjectOf(context, context.route);
    const tabs = tabsOf(context, subject);
    const open = tabs.find((tab) => tab.view === subject.view) ?? tabs[0];
    if (open === undefined) {
      return;
    }
    const target = subject.step === undefined
      ? { kind: "run", run: context.runIndex } as const
      : { kind: "step", run: context.runIndex, step: subject.step.number } as const;
    fill(
      this.#main,
      this.#head(context),
      tabBar(tabs, open, (tab) => link(context, target, tab.view)),
      open.draw(context),
    );
  }

  #head(context: Context): HTMLElement {
    const { step, run, runIndex } = context;
    const { parent, parent_step } = run;
    const crumbs = [
      parent === null ? null : h(
        "a",
        {
          href: link(
            context,
            parent_step === null
              ? { kind: "run", run: parent }
              : { kind: "step", run: parent, step: parent_step },
          ),
        },
        parent_step === null ? runName(parent) : `${runName(parent)}, step ${parent_step}`,
      ),
      step === undefined
        ? null
        : h("a", { href: link(context, { kind: "run", run: runIndex }) }, runName(runIndex)),
    ];
    return h(
      "div",
      { class: "page-head" },
      crumbs.some((crumb) => crumb !== null)
        ? h("nav", { class: "crumbs", "aria-label": "Above" }, crumbs)
        : null,
      h("h1", {}, step === undefined ? runName(runIndex) : `Step ${step.number}`),
      step === undefined ? pill(toneOf(run.status), run.status) : outcomePill(context, step),
      step === undefined && typeof run.signature === "string"
        ? h("code", { class: "signature" }, visible(plain(run.signature, 160)))
        : null,
      step === undefined ? null : stepButtons(context, step),
    );
  }

  #context(): Context {
    const route = parseRoute(location.hash);
    const journalIndex = route.journal < this.#store.journals.length ? route.journal : 0;
    const journal = this.#store.journal(journalIndex);
    const subject = subjectOf({ journal }, route);
    const run = journal.runs[subject.runIndex];
    if (run === undefined) {
      throw new Error("This page has no run in it.");
    }
    return {
      store: this.#store,
      route,
      journal,
      journalIndex,
      runIndex: subject.runIndex,
      run,
      step: subject.step,
      choices: this.#choices,
      go: (to) => this.go(to),
      rename: (to) => this.#rename(to),
    };
  }

  /** The address in the first line; then, in a live page, what the view is drawn from. */
  #keyOf(context: Context): string {
    if (!this.#store.document.live) {
      return `${location.hash}\n`;
    }
    const { step, run, journal } = context;
    const content = step === undefined ? run.status + this.#contentOf(context) : JSON.stringify([
      step,
      [...step.root_calls, ...step.sub_calls].map((call) => journal.calls[call]),
    ]);
    return `${location.hash}\n${content}`;
  }

  /** Views of a run that show only a part of it are drawn again only if that part changes. */
  #contentOf(context: Context): string {
    const { run, journal } = context;
    switch (context.route.view) {
      case "inputs":
        return JSON.stringify(run.inputs);
      case "outputs":
        return JSON.stringify(run.outputs);
      case "variables":
        return JSON.stringify(run.variables);
      case "setup":
        return JSON.stringify([run.status, journal.settings]);
      case "steps":
        return JSON.stringify([run.steps.length, run.steps.at(-1)]);
      default:
        return String(this.#store.document.written_at);
    }
  }

  #grown(): void {
    const context = this.#context();
    // A person who reads the newest step follows the run.
    const follows = context.step !== undefined && context.step.number === this.#newest;
    this.#search.update();
    this.#sidebar.update(this.#store.journals);
    const last = context.run.steps.at(-1);
    if (follows && last !== undefined && last.number !== context.step?.number) {
      this.go(link(context, { kind: "step", run: context.runIndex, step: last.number }));
    } else {
      this.draw();
    }
  }

  #showLive(state: LiveState): void {
    this.#header.showLive(state);
  }

  #skip(event: Event): void {
    event.preventDefault();
    this.#main.focus();
  }
}
