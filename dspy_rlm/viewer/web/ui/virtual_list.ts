/**
 * A list of rows of one height, of which only those in sight exist: a hundred thousand rows scroll as ten do.
 *
 * The list is its own scroller. Whoever owns it decides on roles and focus.
 */

import { h, style } from "./dom.ts";

/** Rows that exist above and below those in sight. */
const SPARE = 8;

/** Rows that are printed. */
const MOST_PRINTED = 2000;

const DRAW_ALL = "drawall";

/** Draws all rows of the lists below an element, for print. */
export function drawWholeLists(root: ParentNode): void {
  for (const list of root.querySelectorAll(".virtual")) {
    list.dispatchEvent(new Event(DRAW_ALL));
  }
}

export interface VirtualListOptions {
  readonly rowHeight: number;
  /** Returns the element of a row; it is discarded when the row leaves the sight. */
  readonly render: (index: number) => HTMLElement;
  readonly className?: string;
}

export class VirtualList {
  readonly element: HTMLElement;
  readonly #body: HTMLElement;
  readonly #options: VirtualListOptions;
  readonly #rows = new Map<number, HTMLElement>();
  #count = 0;

  constructor(options: VirtualListOptions) {
    this.#options = options;
    this.#body = h("div", { class: "virtual-body", role: "presentation" });
    this.element = h("div", { class: `virtual ${options.className ?? ""}` }, this.#body);
    this.element.addEventListener("scroll", () => this.#draw(), { passive: true });
    this.element.addEventListener(
      DRAW_ALL,
      () => this.#drawRows(0, Math.min(this.#count, MOST_PRINTED)),
    );
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  get count(): number {
    return this.#count;
  }

  /** Takes a new number of rows, and draws all that are in sight again. */
  reset(count: number): void {
    this.#count = count;
    style(this.#body, { height: `${count * this.#options.rowHeight}px` });
    const focused = [...this.#rows].find(([, row]) => row.contains(document.activeElement))?.[0];
    for (const row of this.#rows.values()) {
      row.remove();
    }
    this.#rows.clear();
    this.#draw();
    if (focused !== undefined) {
      this.row(focused)?.focus({ preventScroll: true });
    }
  }

  /** Returns the element of a row if it is in sight. */
  row(index: number): HTMLElement | undefined {
    return this.#rows.get(index);
  }

  /** Draws one row again. */
  refresh(index: number): void {
    const old = this.#rows.get(index);
    if (old !== undefined) {
      const row = this.#make(index);
      old.replaceWith(row);
      this.#rows.set(index, row);
    }
  }

  /** Scrolls until a row is in sight, and draws it. */
  reveal(index: number): HTMLElement | undefined {
    const top = index * this.#options.rowHeight;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) {
      this.element.scrollTop = top;
    } else if (top + this.#options.rowHeight > scrollTop + clientHeight) {
      this.element.scrollTop = top + this.#options.rowHeight - clientHeight;
    }
    this.#draw();
    return this.#rows.get(index);
  }

  /** In the event itself, not in a later frame: a fast scroll would show a blank. */
  #draw(): void {
    const { rowHeight } = this.#options;
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / rowHeight) - SPARE);
    const end = Math.min(this.#count, Math.ceil((scrollTop + clientHeight) / rowHeight) + SPARE);
    for (const [index, row] of this.#rows) {
      // A focused row stays: the focus would be lost with it.
      if ((index < first || index >= end) && !row.contains(document.activeElement)) {
        row.remove();
        this.#rows.delete(index);
      }
    }
    this.#drawRows(first, end);
  }

  #drawRows(first: number, end: number): void {
    for (let index = first; index < end; index++) {
      if (!this.#rows.has(index)) {
        const row = this.#make(index);
        this.#rows.set(index, row);
        this.#insert(index, row);
      }
    }
  }

  /** Keeps the rows in the order of the list, which is that of screen readers. */
  #insert(index: number, row: HTMLElement): void {
    const previous = this.#rows.get(index - 1);
    const next = this.#rows.get(index + 1);
    if (previous !== undefined) {
      previous.after(row);
    } else if (next !== undefined) {
      next.before(row);
    } else {
      this.#body.append(row);
    }
  }

  #make(index: number): HTMLElement {
    const row = this.#options.render(index);
    row.classList.add("virtual-row");
    return style(row, {
      top: `${index * this.#options.rowHeight}px`,
      height: `${this.#options.rowHeight}px`,
    });
  }
}
