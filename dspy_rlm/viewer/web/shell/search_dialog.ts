/**
 * The search: a field, and the matches as they are found.
 */

import { Places } from "../document/places.ts";
import { type Hit, search } from "../document/search.ts";
import type { Store } from "../document/store.ts";
import { visible } from "../text/lines.ts";
import { count, percent } from "../text/numbers.ts";
import { Dialog } from "../ui/dialog.ts";
import { fill, h } from "../ui/dom.ts";
import { problem } from "../ui/parts.ts";
import { VirtualList } from "../ui/virtual_list.ts";
import { linkTo } from "./route.ts";

const ROW_HEIGHT = 46;

/** Letters from which on it searches. */
const LEAST = 2;

/** Milliseconds after the last key. */
const DELAY = 150;

export class SearchDialog {
  readonly dialog = new Dialog("Search", "search-dialog");
  readonly #store: Store;
  readonly #go: (link: string, query: string) => void;
  readonly #input: HTMLInputElement;
  readonly #status = h("p", { class: "quiet search-status", role: "status" });
  readonly #list: VirtualList;
  #places: Places | null = null;
  #hits: readonly Hit[] = [];
  #active = 0;
  #running: AbortController | null = null;
  #timer = 0;

  constructor(store: Store, go: (link: string, query: string) => void) {
    this.#store = store;
    this.#go = go;
    this.#input = h("input", {
      type: "search",
      class: "search-input",
      placeholder: "Code, output, prompts, answers, inputs, names \u2026",
      "aria-label": "Search everything in this page",
      role: "combobox",
      "aria-expanded": "false",
      "aria-controls": "search-results",
      "aria-autocomplete": "list",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#later(),
      onkeydown: (event: KeyboardEvent) => this.#key(event),
    });
    this.#list = new VirtualList({
      rowHeight: ROW_HEIGHT,
      render: (index) => this.#row(index),
      className: "search-results",
    });
    this.#list.element.id = "search-results";
    this.#list.element.setAttribute("role", "listbox");
    this.#list.element.setAttribute("aria-label", "Matches");
    this.dialog.fill(this.#input, this.#status, this.#list.element);
    this.dialog.element.addEventListener("close", () => this.#running?.abort());
  }

  show(): void {
    this.dialog.show();
    this.#input.select();
    this.#input.focus();
  }

  /** Forgets the places of an older document. */
  update(): void {
    this.#places = null;
  }

  #later(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#search(), DELAY);
  }

  async #search(): Promise<void> {
    this.#running?.abort();
    const query = this.#input.value.trim();
    if (query.length < LEAST) {
      this.#show([], "");
      return;
    }
    const controller = new AbortController();
    this.#running = controller;
    this.#active = 0;
    try {
      this.#places ??= new Places(this.#store);
      for await (const progress of search(this.#store, this.#places, query, controller.signal)) {
        if (controller.signal.aborted) {
          return;
        }
        const found = progress.more
          ? `The first ${progress.hits.length} matches`
          : count(progress.hits.length, "match", "matches");
        this.#show(
          progress.hits,
          progress.done < 1 ? `${found}, ${percent(progress.done)} searched` : found,
        );
      }
    } catch (error) {
      this.#show([], "");
      fill(this.#status, problem(error));
    }
  }

  #show(hits: readonly Hit[], status: string): void {
    const grown = hits.length !== this.#hits.length || hits[0] !== this.#hits[0];
    this.#hits = hits;
    fill(this.#status, status);
    this.#input.setAttribute("aria-expanded", String(hits.length > 0));
    if (grown) {
      this.#list.reset(hits.length);
      this.#activate(this.#active);
    }
  }

  #row(index: number): HTMLElement {
    const hit = this.#hits[index];
    if (hit === undefined) {
      return h("div", { role: "option", "aria-selected": "false" });
    }
    const { place } = hit;
    return h(
      "div",
      {
        role: "option",
        id: `hit-${index}`,
        class: "hit",
        "aria-selected": String(index === this.#active),
        onclick: () => this.#open(index),
      },
      h(
        "div",
        { class: "hit-place" },
        place.journal === 1 ? "other run \u00b7 " : "",
        visible(place.label),
        hit.others > 0
          ? h("span", { class: "quiet" }, ` and ${count(hit.others, "more place")}`)
          : null,
      ),
      h(
        "div",
        { class: "hit-text" },
        visible(flat(hit.before)),
        h("mark", {}, visible(flat(hit.match))),
        visible(flat(hit.after)),
      ),
    );
  }

  #activate(index: number): void {
    const old = this.#active;
    this.#active = Math.max(0, Math.min(index, this.#hits.length - 1));
    this.#list.reveal(this.#active);
    this.#list.refresh(old);
    this.#list.refresh(this.#active);
    this.#input.setAttribute(
      "aria-activedescendant",
      this.#hits.length > 0 ? `hit-${this.#active}` : "",
    );
  }

  #open(index: number): void {
    const place = this.#hits[index]?.place;
    if (place !== undefined) {
      this.dialog.close();
      this.#go(linkTo(place.journal, place.id, place.view), this.#input.value.trim());
    }
  }

  #key(event: KeyboardEvent): void {
    switch (event.key) {
      case "ArrowDown":
        this.#activate(this.#active + 1);
        break;
      case "ArrowUp":
        this.#activate(this.#active - 1);
        break;
      case "Enter":
        this.#open(this.#active);
        break;
      default:
        return;
    }
    event.preventDefault();
  }
}

function flat(text: string): string {
  return text.replace(/\s+/g, " ");
}
