/**
 * The strip below the header: the time of the whole run in one line, by its critical path, with a mark at each step.
 *
 * A canvas, because a run may have thousands of parts. The timeline has the same in words.
 */

import type { Journal, Part, Segment } from "../document/format.ts";
import { duration } from "../text/numbers.ts";
import { h, style } from "../ui/dom.ts";
import { linkTo } from "./route.ts";

const HEIGHT = 30;

export class Strip {
  readonly element: HTMLElement;
  readonly #canvas = h("canvas", { class: "strip-canvas" });
  readonly #label = h("span", { class: "strip-label" });
  #journal: Journal | null = null;
  #journalIndex = 0;
  #selected: readonly [number, number] | null = null;

  constructor(go: (link: string) => void) {
    this.element = h("div", { class: "strip", "aria-hidden": "true" }, this.#canvas, this.#label);
    new ResizeObserver(() => this.draw()).observe(this.element);
    this.element.addEventListener("pointermove", (event) => this.#hover(event));
    this.element.addEventListener("pointerleave", () => this.#label.replaceChildren());
    this.element.addEventListener("click", (event) => {
      const step = this.#stepAt(this.#timeAt(event));
      if (step !== undefined) {
        go(linkTo(this.#journalIndex, { kind: "step", run: 0, step: step.number }));
      }
    });
  }

  /** Shows a journal; `selected` is the time of the open step. */
  update(journal: Journal, journalIndex: number, selected: readonly [number, number] | null): void {
    this.#journal = journal;
    this.#journalIndex = journalIndex;
    this.#selected = selected;
    this.draw();
  }

  draw(): void {
    const journal = this.#journal;
    const width = this.element.clientWidth;
    const context = this.#canvas.getContext("2d");
    if (journal === null || context === null || width === 0) {
      return;
    }
    const ratio = devicePixelRatio || 1;
    this.#canvas.width = width * ratio;
    this.#canvas.height = HEIGHT * ratio;
    context.scale(ratio, ratio);
    const css = getComputedStyle(this.element);
    const color = (name: string): string => css.getPropertyValue(name).trim();
    const x = (time: number): number => (time / Math.max(journal.seconds, 1e-9)) * width;
    for (const segment of journal.time.critical) {
      context.fillStyle = color(`--part-${segment.part}`);
      context.fillRect(x(segment.start), 8, Math.max(0.5, x(segment.end) - x(segment.start)), 14);
    }
    for (const step of journal.runs[0]?.steps ?? []) {
      context.fillStyle = color("--surface");
      context.fillRect(x(step.started), 6, 1, 18);
      if (step.outcome === "failed") {
        context.fillStyle = color("--bad");
        context.fillRect(x(step.started), 24, Math.max(2, x(step.seconds)), 3);
      }
    }
    if (this.#selected !== null) {
      const [start, seconds] = this.#selected;
      context.strokeStyle = color("--accent");
      context.lineWidth = 2;
      context.strokeRect(x(start), 4, Math.max(3, x(seconds)), 22);
    }
  }

  #timeAt(event: MouseEvent): number {
    const { left, width } = this.element.getBoundingClientRect();
    return ((event.clientX - left) / Math.max(1, width)) * (this.#journal?.seconds ?? 0);
  }

  #stepAt(time: number) {
    return this.#journal?.runs[0]?.steps.findLast((step) => step.started <= time);
  }

  #hover(event: MouseEvent): void {
    const time = this.#timeAt(event);
    const segment = this.#journal?.time.critical.find((one) =>
      one.start <= time && time <= one.end
    );
    const step = this.#stepAt(time);
    const names: Readonly<Record<Part, string>> = {
      root: "root LM",
      sandbox: "sandbox",
      sub: "sub-LM",
      tool: "tool",
      other: "other",
    };
    const what = (one: Segment): string => `${names[one.part]} ${duration(one.end - one.start)}`;
    this.#label.textContent = [
      step === undefined ? "" : `step ${step.number}`,
      segment === undefined ? "" : what(segment),
      `at ${duration(time)}`,
    ].filter((part) => part !== "").join(" \u00b7 ");
    const { left, width } = this.element.getBoundingClientRect();
    const at = event.clientX - left;
    style(
      this.#label,
      at > width / 2
        ? { right: `${width - at + 8}px`, left: "auto" }
        : { left: `${at + 8}px`, right: "auto" },
    );
  }
}
