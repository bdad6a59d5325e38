/**
 * Blocks of plain text: outputs, prompts and replies.
 */

import { h } from "../ui/dom.ts";
import { block } from "./block.ts";
import { appendLine } from "./lines.ts";

export interface PlainOptions {
  readonly folds?: boolean;
  readonly className?: string;
  /** Lines that a folded block shows. */
  readonly shownLines?: number;
}

/** Returns a block of text, wrapped as the page is wide. */
export function textBlock(text: string, options: PlainOptions = {}): HTMLElement {
  const lines = text.replace(/\r\n/g, "\n").replace(/\n$/, "").split("\n");
  return block({
    lines: lines.length,
    className: `text ${options.className ?? ""}`,
    folds: options.folds ?? true,
    ...(options.shownLines === undefined ? {} : { shownLines: options.shownLines }),
    line: (index) => {
      const line = h("div", { class: "line" });
      appendLine(line, lines[index] ?? "");
      if (!line.hasChildNodes()) {
        line.append("\u200b");
      }
      return line;
    },
  });
}
