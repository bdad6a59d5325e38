/**
 * Lines of text as elements: unsafe characters as marks, very long lines cut with a button for the rest.
 */

import { h } from "../ui/dom.ts";
import { integer } from "./numbers.ts";
import type { Token } from "./python.ts";
import { fragments } from "./visible.ts";

/** A longer line is cut here; each click shows as many more characters. */
const LINE_CHARS = 4000;

/** Appends a text with its unsafe characters as marks. */
export function appendVisible(parent: Element, text: string): void {
  for (const part of fragments(text)) {
    parent.append(
      part.kind === "text"
        ? part.text
        : h("span", { class: "unsafe", title: part.title }, part.label),
    );
  }
}

/** Returns a span with a text, its unsafe characters as marks. */
export function visible(text: string, className?: string): HTMLSpanElement {
  const span = h("span", { class: className });
  appendVisible(span, text);
  return span;
}

/** Appends a line of text or tokens. */
export function appendLine(parent: Element, line: string | readonly Token[]): void {
  const tokens = typeof line === "string" ? [{ kind: "plain", text: line }] : line;
  let room = LINE_CHARS;
  for (const [index, token] of tokens.entries()) {
    const text = token.text.slice(0, room);
    room -= text.length;
    if (token.kind === "plain") {
      appendVisible(parent, text);
    } else {
      parent.append(visible(text, `tok-${token.kind}`));
    }
    if (room <= 0) {
      const rest = token.text.slice(text.length) +
        tokens.slice(index + 1).map((later) => later.text).join("");
      if (rest !== "") {
        parent.append(moreButton(rest));
      }
      return;
    }
  }
}

/** Returns the button after a cut line. */
function moreButton(rest: string): HTMLElement {
  const button = h(
    "button",
    {
      class: "more-chars",
      type: "button",
      onclick: () => {
        const next = h("span");
        appendLine(next, rest);
        button.replaceWith(next);
      },
    },
    `\u2026 ${integer(rest.length)} more characters`,
  );
  return button;
}
