/**
 * The time of a run: its parts as one bar, and a row for each thing that happened.
 */

import type { Part } from "../document/format.ts";
import type { Context } from "../shell/context.ts";
import { duration, percent } from "../text/numbers.ts";
import { h, style } from "../ui/dom.ts";
import { panel } from "../ui/parts.ts";
import { PART_NAMES, waterfall } from "./waterfall.ts";

const PARTS: readonly Part[] = ["root", "sandbox", "sub", "tool", "other"];

/** Returns the view. */
export function timelineView(context: Context): HTMLElement {
  return h(
    "div",
    { class: "view timeline-view" },
    panel("What the run waited for", {}, timeParts(context)),
    panel(
      "Timeline",
      {
        className: "grow",
        tools: h(
          "span",
          { class: "quiet" },
          h("span", { class: "critical-key", "aria-hidden": "true" }),
          "on the critical path",
        ),
      },
      waterfall(context, {}),
    ),
  );
}

/** Returns the bar of the parts of the whole run's time, with its legend. */
export function timeParts(context: Context): HTMLElement {
  const { time } = context.journal;
  const total = Math.max(1e-9, PARTS.reduce((sum, part) => sum + (time.by_part[part] ?? 0), 0));
  const parts = PARTS.filter((part) => (time.by_part[part] ?? 0) > 0);
  return h(
    "div",
    { class: "time-parts" },
    h(
      "div",
      { class: "stack", "aria-hidden": "true" },
      parts.map((part) =>
        style(h("span", { class: `bar ${part}`, title: PART_NAMES[part] }), {
          "flex-grow": String((time.by_part[part] ?? 0) / total),
        })
      ),
    ),
    h(
      "ul",
      { class: "legend" },
      parts.map((part) =>
        h(
          "li",
          {},
          h("span", { class: `key ${part}`, "aria-hidden": "true" }),
          PART_NAMES[part],
          h("strong", {}, percent((time.by_part[part] ?? 0) / total)),
          h("span", { class: "quiet" }, duration(time.by_part[part] ?? 0)),
        )
      ),
    ),
  );
}
