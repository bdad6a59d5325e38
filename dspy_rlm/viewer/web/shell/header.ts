/**
 * The line at the top: which run this is, how it ended, what it cost; search, theme and help.
 */

import type { LiveState } from "../document/live.ts";
import type { Store } from "../document/store.ts";
import { sumOf } from "../document/store.ts";
import { visible } from "../text/lines.ts";
import { count, dollars, duration, short, total } from "../text/numbers.ts";
import { plain } from "../text/visible.ts";
import { fill, h } from "../ui/dom.ts";
import { iconButton, named, pill } from "../ui/parts.ts";
import { toneOf } from "./outline.ts";
import { linkTo } from "./route.ts";

export interface HeaderActions {
  readonly search: () => void;
  readonly theme: () => void;
  readonly help: () => void;
  readonly menu: () => void;
}

export class Header {
  readonly element: HTMLElement;
  readonly #title = h("div", { class: "header-title" });
  readonly #figures = h("ul", { class: "header-figures", "aria-label": "Figures of the run" });
  readonly #live = h("span", { class: "header-live", role: "status" });
  readonly #compare = h(
    "a",
    { class: "icon-button", href: linkTo(0, "compare") },
    named("compare"),
    "Compare",
  );

  constructor(actions: HeaderActions) {
    const search = h(
      "button",
      {
        class: "search-button",
        type: "button",
        onclick: actions.search,
        "aria-keyshortcuts": "/",
        "aria-label": "Search everything",
      },
      named("search"),
      h("span", {}, "Search everything"),
      h("kbd", { "aria-hidden": "true" }, "/"),
    );
    this.element = h(
      "header",
      { class: "header" },
      iconButton("menu", "Runs and steps", actions.menu, "menu-button"),
      this.#title,
      this.#figures,
      this.#live,
      h(
        "div",
        { class: "header-tools" },
        search,
        this.#compare,
        iconButton("theme", "Light or dark (t)", actions.theme),
        iconButton("help", "Keyboard help (?)", actions.help),
      ),
    );
  }

  /** Shows a journal: the one that the open page is about. */
  update(store: Store, journalIndex: number): void {
    const journal = store.journal(journalIndex);
    const sum = sumOf(journal.calls);
    const name = plain(journal.name || "run", 120).replace(/\.jsonl(\.gz)?$/, "");
    document.title = `${name} \u00b7 dspy-rlm`;
    fill(
      this.#title,
      h("a", {
        href: linkTo(journalIndex, "r0"),
        class: "header-name",
        title: plain(journal.path, 300),
      }, visible(name)),
      pill(toneOf(journal.status), journal.status),
      journal.stopped_by !== "" && journal.stopped_by !== "SUBMIT"
        ? h("span", { class: "quiet header-stopped" }, visible(plain(journal.stopped_by, 60)))
        : null,
      store.document.redacted ? pill("quiet", "redacted") : null,
    );
    const figure = (text: string, label: string): HTMLElement =>
      h("li", {}, h("strong", {}, text), ` ${label}`);
    fill(
      this.#figures,
      figure(duration(journal.seconds), ""),
      figure(...split(count(journal.runs[0]?.steps.length ?? 0, "step"))),
      figure(...split(count(sum.calls, "call"))),
      figure(total(sum.tokens, short), "tokens"),
      sum.cost.known === null ? null : figure(total(sum.cost, dollars), ""),
    );
    this.#compare.hidden = store.journals.length < 2;
  }

  showLive(state: LiveState): void {
    const words: Readonly<Record<LiveState, string>> = {
      live: "live",
      retrying: "connection lost, trying again",
      lost: "no longer live: the server is gone",
      ended: "the run has ended",
    };
    if (this.#live.dataset["state"] !== state) {
      this.#live.dataset["state"] = state;
      fill(this.#live, words[state]);
    }
  }
}

function split(counted: string): [string, string] {
  const space = counted.indexOf(" ");
  return [counted.slice(0, space), counted.slice(space + 1)];
}
