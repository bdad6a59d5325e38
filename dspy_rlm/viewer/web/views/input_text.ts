/**
 * The text of an input, with the parts that LMs were shown and the quotes marked.
 */

import type { CoveredText, Quote } from "../document/format.ts";
import { block, drawAll } from "../text/block.ts";
import { appendVisible } from "../text/lines.ts";
import { h } from "../ui/dom.ts";

/** Characters of a line that are drawn; an input may be one line. */
const LINE_CHARS = 2000;

interface Line {
  readonly start: number;
  readonly text: string;
  /** True if it continues in the next one: a very long line. */
  readonly wrapped: boolean;
}

/** Returns the text; `at` is the position that it scrolls to. */
export function inputText(
  text: string,
  covered: CoveredText,
  quotes: readonly Quote[],
  at: number | null,
): HTMLElement {
  const lines = split(text);
  const root = block({
    lines: lines.length,
    className: "text input-text",
    folds: false,
    line: (index) =>
      drawLine(lines[index] ?? { start: 0, text: "", wrapped: false }, covered, quotes),
  });
  if (at !== null) {
    const index = Math.max(0, lines.findLastIndex((line) => line.start <= at));
    requestAnimationFrame(() => scrollTo(root, index));
  }
  return root;
}

function scrollTo(root: HTMLElement, index: number): void {
  // Batches above are of the right height only when they are drawn; a long wrapped line would move the place.
  if (index < 4000) {
    drawAll(root);
  }
  const line = root.querySelectorAll<HTMLElement>(".line")[index] ??
    root.querySelectorAll<HTMLElement>(".batch")[Math.floor(index / 200) - 1];
  line?.scrollIntoView({ block: "center" });
  line?.classList.add("target");
}

function split(text: string): Line[] {
  const lines: Line[] = [];
  for (let start = 0; start <= text.length;) {
    const newline = text.indexOf("\n", start);
    const end = newline === -1 ? text.length : newline;
    for (let part = start; part === start || part < end; part += LINE_CHARS) {
      const until = Math.min(end, part + LINE_CHARS);
      lines.push({ start: part, text: text.slice(part, until), wrapped: until < end });
    }
    start = end + 1;
  }
  return lines;
}

type Mark = "seen" | "quote";

function drawLine(line: Line, covered: CoveredText, quotes: readonly Quote[]): HTMLElement {
  const element = h("div", { class: "line" });
  const end = line.start + line.text.length;
  const edges = new Set([line.start, end]);
  const seen = overlapping(covered.seen, line.start, end);
  const quoted = quotes.filter((quote) => quote.start < end && quote.end > line.start);
  for (const edge of [...seen.flat(), ...quoted.flatMap((quote) => [quote.start, quote.end])]) {
    if (edge > line.start && edge < end) {
      edges.add(edge);
    }
  }
  const sorted = [...edges].sort((one, other) => one - other);
  sorted.slice(0, -1).forEach((from, index) => {
    const to = sorted[index + 1] ?? end;
    const marks: Mark[] = [];
    if (seen.some(([start, stop]) => start <= from && stop >= to)) {
      marks.push("seen");
    }
    if (quoted.some((quote) => quote.start <= from && quote.end >= to)) {
      marks.push("quote");
    }
    const part = h(marks.includes("quote") ? "mark" : "span", { class: marks.join(" ") });
    appendVisible(part, line.text.slice(from - line.start, to - line.start));
    element.append(part);
  });
  if (line.text === "") {
    element.append("\u200b");
  }
  return element;
}

/** Returns the ranges that overlap a part, found by halves: there may be many. */
function overlapping(ranges: readonly number[], start: number, end: number): [number, number][] {
  let [low, high] = [0, ranges.length / 2];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle * 2 + 1] ?? 0) <= start) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const found: [number, number][] = [];
  for (let index = low; index < ranges.length / 2 && (ranges[index * 2] ?? 0) < end; index++) {
    found.push([ranges[index * 2] ?? 0, ranges[index * 2 + 1] ?? 0]);
  }
  return found;
}
