/**
 * A dialog over the page, closed by Escape or a click beside it; the browser keeps the focus inside.
 */

import { type Child, fill, h } from "./dom.ts";
import { iconButton } from "./parts.ts";

export class Dialog {
  readonly element: HTMLDialogElement;
  readonly #body = h("div", { class: "dialog-body" });

  constructor(title: string, className: string) {
    this.element = h(
      "dialog",
      { class: `dialog ${className}`, "aria-label": title },
      h(
        "div",
        { class: "dialog-head" },
        h("h2", {}, title),
        iconButton("close", "Close", () => this.close()),
      ),
      this.#body,
    );
    this.element.addEventListener("click", (event) => {
      if (event.target === this.element) {
        this.close();
      }
    });
  }

  get open(): boolean {
    return this.element.open;
  }

  fill(...children: Child[]): void {
    fill(this.#body, ...children);
  }

  show(): void {
    if (!this.element.open) {
      this.element.showModal();
    }
  }

  close(): void {
    this.element.close();
  }
}
