/**
 * The names of the REPL: where each was assigned and where it was read, on a line of the steps.
 */

import type { Variable } from "../document/format.ts";
import type { Context } from "../shell/context.ts";
import { stepLink } from "../shell/context.ts";
import { visible } from "../text/lines.ts";
import { largest, ranges } from "../text/numbers.ts";
import { plain } from "../text/visible.ts";
import { h, svg } from "../ui/dom.ts";
import { nothing } from "../ui/parts.ts";

/** Names that are shown at once. */
const MOST = 500;

/** Returns the view. */
export function variablesView(context: Context): HTMLElement {
  const { variables, steps } = context.run;
  if (variables.length === 0) {
    return h("div", { class: "view" }, nothing("No names were assigned."));
  }
  const last = largest(steps.map((step) => step.number), 1);
  const id = context.journalIndex === 1 ? "RUN" : plain(context.journal.name || "RUN", 80);
  return h(
    "div",
    { class: "view variables-view" },
    h(
      "ul",
      { class: "legend" },
      h("li", {}, h("span", { class: "key assigned", "aria-hidden": "true" }), "assigned"),
      h("li", {}, h("span", { class: "key used", "aria-hidden": "true" }), "read"),
      h(
        "li",
        { class: "quiet" },
        h("span", {}, "For the values: ", h("code", {}, `dspy-rlm open ${id} --step K`)),
      ),
    ),
    h(
      "div",
      { class: "table-box panel", tabindex: 0, role: "region", "aria-label": "Variables" },
      h(
        "table",
        { class: "table variables" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Name", "Kind", "Steps", "Assigned in", "Read in"].map((name) =>
              h("th", { scope: "col" }, name)
            ),
          ),
        ),
        h("tbody", {}, variables.slice(0, MOST).map((variable) => row(context, variable, last))),
      ),
    ),
    variables.length > MOST
      ? h("p", { class: "quiet" }, `and ${variables.length - MOST} more; the search finds them`)
      : null,
  );
}

function row(context: Context, variable: Variable, last: number): HTMLElement {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("code", {}, visible(plain(variable.name, 80)))),
    h("td", { class: "quiet" }, variable.kind),
    h("td", { class: "lifeline-cell" }, lifeline(variable, last)),
    h("td", {}, stepLinks(context, variable.assigned)),
    h("td", {}, stepLinks(context, variable.used)),
  );
}

/** Steps that are links of their own; more are shown as ranges. */
const MOST_LINKS = 8;

function stepLinks(context: Context, numbers: readonly number[]): HTMLElement {
  if (numbers.length > MOST_LINKS) {
    return h("span", {}, ranges(numbers));
  }
  return h(
    "span",
    { class: "step-links" },
    numbers.map((number) =>
      h("a", { href: stepLink(context, number), "aria-label": `Step ${number}` }, number)
    ),
  );
}

/** Returns the positions of steps; those that would be at one place are one. */
function marks(steps: readonly number[], x: (step: number) => number): number[] {
  return [...new Set(steps.map((step) => Math.round(x(step))))];
}

function lifeline(variable: Variable, last: number): SVGSVGElement {
  const x = (step: number): number => last === 1 ? 100 : 6 + ((step - 1) / (last - 1)) * 188;
  const all = [...variable.assigned, ...variable.used];
  const first = variable.kind === "input"
    ? 1
    : all.reduce((one, other) => Math.min(one, other), last);
  const end = all.reduce((one, other) => Math.max(one, other), first);
  return svg(
    "svg",
    { class: "lifeline", viewBox: "0 0 200 16", "aria-hidden": "true", focusable: "false" },
    svg("line", { class: "rail", x1: 6, x2: 194, y1: 8, y2: 8 }),
    all.length === 0
      ? null
      : svg("line", { class: "life", x1: x(first), x2: x(end), y1: 8, y2: 8 }),
    marks(variable.used, x).map((cx) => svg("circle", { class: "used", cx, cy: 8, r: 3 })),
    marks(variable.assigned, x).map((cx) => svg("circle", { class: "assigned", cx, cy: 8, r: 4 })),
  );
}
