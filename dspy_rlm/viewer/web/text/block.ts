/**
 * A block of lines that draws only the lines near the viewport, so that a text of any length opens at once.
 */

import { h, style } from "../ui/dom.ts";
import { count } from "./numbers.ts";

/** Lines that are drawn together. */
const BATCH = 200;

/** Lines that a folded block shows. */
const SHOWN_LINES = 40;
/** A block is folded if it has so many times more lines: folding less is not worth a click. */
const FOLD_FACTOR = 1.5;

/** The height of a line in `rem`, for those that are not drawn yet; CSS has the same number. */
const LINE_REM = 1.25;

export interface BlockOptions {
  readonly lines: number;
  /** Returns the element of a line, by its index. */
  readonly line: (index: number) => HTMLElement;
  readonly className?: string;
  /** False: never folded. */
  readonly folds?: boolean;
  /** Lines that a folded block shows; 40 without it. */
  readonly shownLines?: number;
}

/** Returns the block. */
export function block(options: BlockOptions): HTMLElement {
  const body = h("div", { class: `block ${options.className ?? ""}` });
  const shown = options.shownLines ?? SHOWN_LINES;
  const folded = options.folds !== false && options.lines > shown * FOLD_FACTOR;
  drawLines(body, options, 0, folded ? shown : options.lines);
  if (!folded) {
    return body;
  }
  const button = h(
    "button",
    {
      class: "unfold",
      type: "button",
      onclick: () => {
        button.remove();
        drawLines(body, options, shown, options.lines);
      },
    },
    `Show ${count(options.lines - shown, "more line")}`,
  );
  return h("div", { class: "folded" }, body, button);
}

function drawLines(body: HTMLElement, options: BlockOptions, start: number, end: number): void {
  for (let index = start; index < end; index += BATCH) {
    const last = Math.min(end, index + BATCH);
    const draw = (into: HTMLElement): void => {
      for (let line = index; line < last; line++) {
        into.append(options.line(line));
      }
    };
    if (index === start) {
      draw(body);
    } else {
      const batch = style(h("div", { class: "batch" }), {
        "min-height": `${(last - index) * LINE_REM}rem`,
      });
      body.append(batch);
      drawNear(batch, draw);
    }
  }
}

const waiting = new WeakMap<Element, (into: HTMLElement) => void>();

let observer: IntersectionObserver | undefined;

/** Draws into an element once it is near the viewport. */
export function drawNear(element: HTMLElement, draw: (into: HTMLElement) => void): void {
  waiting.set(element, draw);
  observer ??= new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) {
          drawWaiting(entry.target as HTMLElement);
        }
      }
    },
    { rootMargin: "1200px 0px" },
  );
  observer.observe(element);
}

/** Draws all parts of an element that are not drawn yet, for print. */
export function drawAll(root: ParentNode): void {
  for (const element of root.querySelectorAll<HTMLElement>(".batch, .lazy")) {
    drawWaiting(element);
  }
}

function drawWaiting(element: HTMLElement): void {
  const draw = waiting.get(element);
  if (draw !== undefined) {
    waiting.delete(element);
    observer?.unobserve(element);
    draw(element);
    element.style.removeProperty("min-height");
    element.classList.add("drawn");
  }
}
