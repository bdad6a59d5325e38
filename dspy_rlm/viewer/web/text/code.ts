/**
 * Python code with line numbers, colours, a mark at the line that failed, and the difference to other code.
 */

import { h, style } from "../ui/dom.ts";
import { block } from "./block.ts";
import type { DiffLine } from "./diff.ts";
import { diffLines } from "./diff.ts";
import { appendLine, visible } from "./lines.ts";
import type { Token } from "./python.ts";
import { tokenizeLines } from "./python.ts";

export interface CodeOptions {
  /** The line that failed, from 1, with the error to show under it. */
  readonly failed?: { readonly line: number; readonly message: string } | null;
  readonly folds?: boolean;
}

/** Returns a block of code. */
export function codeBlock(code: string, options: CodeOptions = {}): HTMLElement {
  const lines = tokenizeLines(trimmed(code));
  return block({
    lines: lines.length,
    className: "code",
    folds: options.folds ?? true,
    line: (index) => {
      const failed = options.failed?.line === index + 1 ? options.failed : null;
      const line = codeLine(index + 1, lines[index] ?? [], failed === null ? "" : "failed");
      if (failed !== null) {
        line.append(
          h("div", { class: "line-error" }, visible(failed.message)),
        );
      }
      return line;
    },
  });
}

/** Returns a block of the differences of code to other code. */
export function codeDiff(before: string, after: string): HTMLElement {
  const [old, now] = [trimmed(before), trimmed(after)];
  return diffBlock(diffLines(old, now), {
    old: tokenizeLines(old),
    now: tokenizeLines(now),
    className: "code",
  });
}

/** Returns code without the newline at its end, which would be a line of its own. */
function trimmed(code: string): string {
  return code.replace(/\n$/, "");
}

function codeLine(number: number, tokens: readonly Token[], className: string): HTMLElement {
  const text = hanging(tokens[0]);
  appendLine(text, tokens);
  return h(
    "div",
    { class: `line ${className}` },
    h("span", { class: "line-number", "aria-hidden": "true" }, number),
    className === "failed"
      ? h("span", { class: "visually-hidden" }, `Line ${number} failed: `)
      : null,
    text,
  );
}

/** Returns the box of a line of code, whose wrapped parts are indented as the line is. */
function hanging(first: Token | undefined): HTMLElement {
  const indent = Math.min(40, /^ */.exec(first?.text ?? "")?.[0].length ?? 0);
  const text = h("div", { class: "line-text" });
  return indent === 0
    ? text
    : style(text, { "padding-left": `${indent + 2}ch`, "text-indent": `-${indent + 2}ch` });
}

export interface DiffOptions {
  /** The coloured lines of both texts; without them the lines are plain. */
  readonly old?: readonly (readonly Token[])[];
  readonly now?: readonly (readonly Token[])[];
  readonly className?: string;
  /** Words for screen readers and titles in place of "added" and "removed". */
  readonly added?: string;
  /** Lines of a removed part that are shown at once. */
  readonly removedLines?: number;
  readonly removed?: string;
}

/** Unchanged lines that are left around a change. */
const CONTEXT = 3;

/** Fewer unchanged lines than this are not folded. */
const LEAST_FOLD = 8;

/** Returns a block of lines of a difference; long unchanged parts are folded. */
export function diffBlock(lines: readonly DiffLine[], options: DiffOptions = {}): HTMLElement {
  const root = h("div", { class: `diff ${options.className ?? ""}` });
  for (let index = 0; index < lines.length;) {
    let end = index;
    const change = lines[index]?.change;
    const same = change === "same";
    while (end < lines.length && lines[end]?.change === change) {
      end += 1;
    }
    const [first, last] = same
      ? [index === 0 ? 0 : CONTEXT, end === lines.length ? 0 : CONTEXT]
      : [0, 0];
    if (same && end - index >= LEAST_FOLD + first + last) {
      root.append(draw(lines.slice(index, index + first), options));
      root.append(fold(lines.slice(index + first, end - last), options));
      root.append(draw(lines.slice(end - last, end), options));
    } else {
      root.append(draw(lines.slice(index, end), options));
    }
    index = end;
  }
  return root;
}

function draw(lines: readonly DiffLine[], options: DiffOptions): HTMLElement {
  return block({
    lines: lines.length,
    folds: lines[0]?.change !== "same",
    ...(lines[0]?.change === "removed" && options.removedLines !== undefined
      ? { shownLines: options.removedLines }
      : {}),
    line: (index) => diffLine(lines[index] ?? { change: "same", text: "", number: 0 }, options),
  });
}

function fold(lines: readonly DiffLine[], options: DiffOptions): HTMLElement {
  const button = h(
    "button",
    {
      class: "unfold",
      type: "button",
      onclick: () => button.replaceWith(draw(lines, options)),
    },
    `${lines.length.toLocaleString("en-US")} unchanged lines`,
  );
  return button;
}

const SIGNS = { same: "", added: "+", removed: "\u2212" } as const;

function diffLine(line: DiffLine, options: DiffOptions): HTMLElement {
  const tokens = (line.change === "removed" ? options.old : options.now)?.[line.number - 1];
  const word = line.change === "same" ? "" : options[line.change] ?? line.change;
  const text = h("div", { class: "line-text" });
  appendLine(text, tokens ?? line.text);
  return h(
    "div",
    { class: `line ${line.change}` },
    h("span", { class: "line-number", "aria-hidden": "true" }, line.number),
    h("span", { class: "line-sign", "aria-hidden": "true", title: word }, SIGNS[line.change]),
    word === "" ? null : h("span", { class: "visually-hidden" }, `${word}: `),
    text,
  );
}
