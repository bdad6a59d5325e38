/** The time axis of the waterfall: its ticks, and the keys and the dragging that zoom in. */

import { duration } from "../text/numbers.ts";
import { fill, h, style } from "../ui/dom.ts";

/** Start and end of a time. */
export type Range = readonly [number, number];

/** Draws the ticks of a range, with times relative to `origin`. */
export function drawTicks(axis: HTMLElement, [from, to]: Range, origin: number): void {
  fill(
    axis,
    ticks(to - from, from - origin).map((tick) =>
      style(h("span", { class: "tick" }, duration(tick).replace(/\.?0+ s$/, " s")), {
        left: `${((tick + origin - from) / (to - from)) * 100}%`,
      })
    ),
  );
}

/**
 * Returns the range that a key asks for, null for any other key: `+` and `-` zoom, `<` and `>` move, `0` shows the whole.
 * The whole itself is returned where nothing is left out.
 */
export function rangeOfKey(key: string, [from, to]: Range, whole: Range): Range | null {
  const span = to - from;
  const [first, last] = whole;
  const show = (start: number, width: number): Range => {
    const most = Math.min(width, last - first);
    const begin = Math.max(first, Math.min(start, last - most));
    return most >= last - first ? whole : [begin, begin + most];
  };
  switch (key) {
    case "+":
      return show(from + span / 4, span / 2);
    case "-":
      return show(from - span / 2, span * 2);
    case "<":
      return show(from - span / 2, span);
    case ">":
      return show(from + span / 2, span);
    case "0":
      return whole;
    default:
      return null;
  }
}

/** Lets the user drag over the axis; `zoom` gets the selected part of it, from 0 to 1. */
export function dragToZoom(axis: HTMLElement, zoom: (left: number, right: number) => void): void {
  let start: number | null = null;
  const selection = h("span", { class: "selection" });
  const at = (event: PointerEvent): number => {
    const { left, width } = axis.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - left) / width));
  };
  axis.title = "Drag to zoom in";
  axis.addEventListener("pointerdown", (event) => {
    start = at(event);
    axis.setPointerCapture(event.pointerId);
    axis.append(selection);
  });
  axis.addEventListener("pointermove", (event) => {
    if (start !== null) {
      const [left, right] = [Math.min(start, at(event)), Math.max(start, at(event))];
      style(selection, { left: `${left * 100}%`, width: `${(right - left) * 100}%` });
    }
  });
  axis.addEventListener("pointerup", (event) => {
    if (start === null) {
      return;
    }
    const [left, right] = [Math.min(start, at(event)), Math.max(start, at(event))];
    start = null;
    selection.remove();
    if (right - left > 0.01) {
      zoom(left, right);
    }
  });
}

/** Returns round times for an axis, relative to the start of the whole. */
function ticks(span: number, offset: number): number[] {
  const rough = span / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const found: number[] = [];
  for (let tick = Math.ceil(offset / step) * step; tick <= offset + span * 0.93; tick += step) {
    found.push(tick);
  }
  return found;
}
