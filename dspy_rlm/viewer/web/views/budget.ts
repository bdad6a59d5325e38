/**
 * The budget: the use of each limit over the time of the run.
 */

import type { Gauge, Totals } from "../document/format.ts";
import type { Context } from "../shell/context.ts";
import { visible } from "../text/lines.ts";
import { dollars, duration, integer, percent, short } from "../text/numbers.ts";
import { plain } from "../text/visible.ts";
import { h, svg } from "../ui/dom.ts";
import { nothing, panel, pill } from "../ui/parts.ts";

const NAMES: Readonly<Record<Gauge["name"], string>> = {
  max_iterations: "Turns",
  max_llm_calls: "Sub-LM calls",
  max_tokens: "Tokens",
  max_cost: "Cost",
  max_seconds: "Time",
};

const [WIDTH, HEIGHT] = [400, 90];

/** Returns the view. */
export function budgetView(context: Context): HTMLElement {
  const { journal } = context;
  return h(
    "div",
    { class: "view budget-view" },
    journal.budget.length === 0 ? nothing("The budget of this run is not in its journal.") : h(
      "div",
      { class: "gauges" },
      journal.budget.map((gauge) => gaugeCard(gauge, journal.seconds)),
    ),
    panel("By model", {}, totalsTable(journal.totals)),
  );
}

/** Returns an amount in the unit of its gauge. */
export function amount(gauge: Gauge, value: number | null): string {
  switch (gauge.unit) {
    case "dollars":
      return dollars(value);
    case "seconds":
      return duration(value);
    case "tokens":
      return short(value);
    default:
      return integer(value);
  }
}

/** Returns the part of a limit that is spent, from 0 to 1; null without a limit. */
export function spentPart(gauge: Gauge): number | null {
  return gauge.limit === null || gauge.spent === null || gauge.limit <= 0
    ? null
    : Math.min(1, gauge.spent / gauge.limit);
}

function gaugeCard(gauge: Gauge, seconds: number): HTMLElement {
  const part = spentPart(gauge);
  const left = gauge.limit === null || gauge.spent === null ? null : gauge.limit - gauge.spent;
  return h(
    "section",
    { class: `gauge${gauge.reached ? " reached" : ""}` },
    h(
      "div",
      { class: "gauge-head" },
      h("h2", {}, NAMES[gauge.name]),
      gauge.reached
        ? pill("bad", "reached")
        : part !== null && part >= 0.8
        ? pill("warn", percent(part))
        : part !== null
        ? pill("quiet", percent(part))
        : null,
    ),
    h(
      "p",
      { class: "gauge-number" },
      h("strong", {}, amount(gauge, gauge.spent)),
      gauge.limit === null ? " used, no limit" : ` of ${amount(gauge, gauge.limit)}`,
      left === null
        ? null
        : h("span", { class: "quiet" }, ` \u00b7 ${amount(gauge, Math.max(0, left))} left`),
    ),
    chart(gauge, seconds),
    h("p", { class: "gauge-axis quiet" }, h("span", {}, "0 s"), h("span", {}, duration(seconds))),
  );
}

/** Draws the rest of the limit, or without a limit the amount used. */
function chart(gauge: Gauge, seconds: number): SVGSVGElement {
  const highest = Math.max(gauge.limit ?? 0, ...gauge.points.map((point) => point[1]), 1e-9);
  const x = (time: number): number => (Math.min(time, seconds) / Math.max(seconds, 1e-9)) * WIDTH;
  const y = (spent: number): number => {
    const share = Math.min(1, spent / highest);
    return 4 + (gauge.limit === null ? 1 - share : share) * (HEIGHT - 8);
  };
  let path = "";
  let last = y(0);
  for (const [time, spent] of gauge.points) {
    // Money and calls are spent at once; only time runs out steadily.
    path += path === ""
      ? `M${x(time)},${y(spent)}`
      : gauge.unit === "seconds"
      ? `L${x(time)},${y(spent)}`
      : `L${x(time)},${last}L${x(time)},${y(spent)}`;
    last = y(spent);
  }
  path = path === "" ? `M0,${last}` : path;
  path += `L${WIDTH},${last}`;
  return svg(
    "svg",
    {
      class: "burn-down",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `${NAMES[gauge.name]} over the time of the run`,
    },
    svg("path", { class: "area", d: `${path}L${WIDTH},${HEIGHT}L0,${HEIGHT}Z` }),
    svg("path", { class: "line", d: path, "vector-effect": "non-scaling-stroke" }),
  );
}

/** Returns the table of the calls of each model. */
export function totalsTable(totals: readonly Totals[]): HTMLElement {
  if (totals.length === 0) {
    return nothing("No LM calls yet.");
  }
  const cell = (text: string): HTMLElement => h("td", { class: "num" }, text);
  return h(
    "div",
    { class: "table-box", tabindex: 0, role: "region", "aria-label": "Calls by model" },
    h(
      "table",
      { class: "table" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          [
            "Model",
            "Depth",
            "Calls",
            "Cached",
            "Failed",
            "Tokens in",
            "Tokens out",
            "Cost",
            "Latency",
          ].map(
            (name, index) => h("th", { scope: "col", class: index > 0 ? "num" : "" }, name),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        totals.map((one) =>
          h(
            "tr",
            {},
            h(
              "th",
              { scope: "row" },
              h("span", {
                class: `key ${one.is_sub_call ? "sub" : "root"}`,
                "aria-hidden": "true",
              }),
              visible(plain(one.model, 100)),
              h("span", { class: "quiet" }, one.is_sub_call ? " sub-calls" : " root"),
            ),
            cell(integer(one.depth)),
            cell(integer(one.calls)),
            cell(integer(one.cached)),
            cell(integer(one.failed)),
            cell(integer(one.input_tokens)),
            cell(integer(one.output_tokens)),
            cell(dollars(one.cost)),
            cell(duration(one.seconds)),
          )
        ),
      ),
    ),
  );
}
