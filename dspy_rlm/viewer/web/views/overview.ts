/**
 * A run at a glance: what it was asked, what came out, what it cost, and what to do better.
 */

import type { Text, Warning } from "../document/format.ts";
import { subCallsOf } from "../document/store.ts";
import { isEmpty } from "../document/texts.ts";
import type { Context } from "../shell/context.ts";
import { link } from "../shell/context.ts";
import { visible } from "../text/lines.ts";
import { bytes, count, integer, percent } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { h, style } from "../ui/dom.ts";
import { named, nothing, panel, pill, shown } from "../ui/parts.ts";
import { amount, spentPart, totalsTable } from "./budget.ts";
import { outputPanel } from "./outputs.ts";
import { timeParts } from "./timeline.ts";

/** Returns the view. */
export function overviewView(context: Context): HTMLElement {
  const { run, journal, runIndex } = context;
  const isRoot = runIndex === 0;
  return h(
    "div",
    { class: "view overview" },
    isEmpty(run.error) ? null : panel(
      h("span", { class: "bad" }, `Ended by ${plain(run.stopped_by || "an error", 80)}`),
      { className: "error-panel" },
      shown(context.store, run.error, (text) => textBlock(text)),
    ),
    isRoot ? notes(context, journal.notes) : null,
    h(
      "div",
      { class: "overview-columns" },
      h(
        "div",
        { class: "overview-main" },
        inputsPanel(context),
        run.outputs.map((output) => outputPanel(context, output, false)),
        run.outputs.length === 0 ? panel("Outputs", {}, nothing(noOutputs(context))) : null,
        isRoot && journal.warnings.length > 0 ? warningsPanel(context) : null,
        isEmpty(run.instructions) ? null : panel(
          "Instructions",
          {},
          shown(context.store, run.instructions, (text) => textBlock(text, { className: "prose" })),
        ),
      ),
      h(
        "div",
        { class: "overview-side" },
        isRoot
          ? panel(
            "Time",
            { tools: h("a", { href: link(context, "r0", "timeline") }, "Timeline") },
            timeParts(context),
          )
          : null,
        isRoot && journal.budget.length > 0
          ? panel(
            "Budget",
            { tools: h("a", { href: link(context, "r0", "budget") }, "Burn-down") },
            gauges(context),
          )
          : null,
        panel("Steps", {}, stepsStrip(context)),
        turnsLost(context),
      ),
    ),
    isRoot ? panel("Calls by model", {}, totalsTable(journal.totals)) : subRunCalls(context),
  );
}

function noOutputs(context: Context): string {
  return context.run.status === "running"
    ? "None yet: the run goes on."
    : "The run ended without outputs.";
}

function notes(context: Context, found: readonly Text[]): HTMLElement[] {
  return found.map((note) =>
    h("div", { class: "note warn" }, shown(context.store, note, (text) => visible(text)))
  );
}

function inputsPanel(context: Context): HTMLElement {
  return panel(
    "Inputs",
    { tools: h("a", { href: link(context, `r${context.runIndex}`, "inputs") }, "Coverage") },
    h(
      "ul",
      { class: "input-list" },
      context.run.inputs.map((input) =>
        h(
          "li",
          {},
          h(
            "a",
            { href: link(context, `r${context.runIndex}`, "inputs", [input.name]) },
            h("code", {}, visible(plain(input.name, 60))),
          ),
          h("span", { class: "quiet" }, visible(plain(input.annotation, 60))),
          h(
            "span",
            { class: "quiet" },
            input.kind === "text" ? count(input.size, "character") : bytes(input.size),
          ),
          input.coverage === null ? null : pill(
            input.coverage.fraction < 0.5 ? "warn" : "quiet",
            `${percent(input.coverage.fraction)} seen`,
          ),
          typeof input.preview === "string" && input.preview.length <= 200 && input.size <= 200
            ? h("span", { class: "input-preview" }, visible(plain(input.preview, 200)))
            : null,
        )
      ),
    ),
  );
}

function gauges(context: Context): HTMLElement {
  return h(
    "ul",
    { class: "gauge-list" },
    context.journal.budget.map((gauge) => {
      const part = spentPart(gauge);
      return h(
        "li",
        { class: gauge.reached ? "reached" : "" },
        h("span", {}, gauge.name.replace("max_", "").replace("_", " ").replace("llm", "LLM")),
        h(
          "span",
          { class: "num" },
          amount(gauge, gauge.spent),
          gauge.limit === null ? "" : ` / ${amount(gauge, gauge.limit)}`,
        ),
        part === null ? null : h(
          "span",
          { class: "meter", "aria-hidden": "true" },
          style(h("span", { class: part >= 1 ? "full" : part >= 0.8 ? "high" : "" }), {
            width: `${part * 100}%`,
          }),
        ),
      );
    }),
  );
}

/** Steps that are drawn as one square each. */
const MOST_SQUARES = 600;

function stepsStrip(context: Context): HTMLElement {
  const { run } = context;
  const failed = run.steps.filter((step) => step.outcome === "failed").length;
  return h(
    "div",
    {},
    h(
      "p",
      {},
      count(run.steps.length, "step"),
      failed > 0 ? h("span", { class: "bad" }, `, ${failed} failed`) : null,
    ),
    h(
      "div",
      { class: "squares" },
      run.steps.slice(0, MOST_SQUARES).map((step) =>
        h("a", {
          href: link(context, { kind: "step", run: context.runIndex, step: step.number }),
          class: `square ${step.outcome ?? "none"}`,
          "aria-label": `Step ${step.number}: ${step.outcome ?? "no cell"}`,
          title: `Step ${step.number}: ${step.outcome ?? "no cell"}`,
        })
      ),
    ),
  );
}

function turnsLost(context: Context): HTMLElement | null {
  const causes = Object.entries(context.run.turns_lost);
  const repairs = Object.entries(context.run.repairs);
  if (causes.length === 0 && repairs.length === 0) {
    return null;
  }
  const list = (title: string, pairs: readonly (readonly [string, number])[]): HTMLElement | null =>
    pairs.length === 0 ? null : h(
      "div",
      {},
      h("h3", {}, title),
      h(
        "ul",
        { class: "pairs" },
        pairs.map(([name, number]) =>
          h(
            "li",
            {},
            plain(name.replaceAll("_", " "), 60),
            h("span", { class: "num" }, integer(number)),
          )
        ),
      ),
    );
  return panel("Form of the replies", {}, list("Turns lost", causes), list("Repairs", repairs));
}

function subRunCalls(context: Context): HTMLElement {
  const calls = subCallsOf(context.journal, context.runIndex).length;
  return h(
    "p",
    {},
    h("a", { href: link(context, `r${context.runIndex}`, "calls") }, count(calls, "sub-call")),
    " in this run and those below it",
  );
}

/** Places of a warning that are links. */
const MOST_PLACES = 12;

/** Returns the warnings of a journal with what to do. */
function warningsPanel(context: Context): HTMLElement {
  const { warnings } = context.journal;
  return panel(
    count(warnings.length, "warning"),
    { className: "warnings" },
    h(
      "ul",
      {},
      warnings.map((warning, index) => warningItem(context, warning, index)),
    ),
  );
}

function warningItem(context: Context, warning: Warning, index: number): HTMLElement {
  const { route } = context;
  const open = route.target.kind === "warning" && route.target.warning === index;
  const item = h(
    "li",
    { class: `warning${open ? " target" : ""}`, id: `warning-${index}` },
    h("span", { class: "warning-icon", "aria-hidden": "true" }, named("warning")),
    h(
      "div",
      {},
      h(
        "p",
        { class: "warning-text" },
        shown(context.store, warning.text, (text) => visible(text)),
      ),
      h("p", { class: "quiet" }, shown(context.store, warning.advice, (text) => visible(text))),
      warning.places.length === 0 ? null : h(
        "p",
        { class: "step-links" },
        warning.places.slice(0, MOST_PLACES).map((place) =>
          h(
            "a",
            { href: placeLink(context, place) },
            placeName(place),
          )
        ),
        warning.places.length > MOST_PLACES
          ? h("span", { class: "quiet" }, `and ${warning.places.length - MOST_PLACES} more`)
          : null,
      ),
    ),
  );
  if (open) {
    requestAnimationFrame(() => item.scrollIntoView({ block: "center" }));
  }
  return item;
}

function placeLink(context: Context, place: Warning["places"][number]): string {
  if (place.call !== null) {
    return link(context, { kind: "call", call: place.call });
  }
  return place.step === null
    ? link(context, { kind: "run", run: place.run })
    : link(context, { kind: "step", run: place.run, step: place.step });
}

function placeName(place: Warning["places"][number]): string {
  if (place.call !== null) {
    return `call ${place.call}`;
  }
  const run = place.run === 0 ? "" : `sub-run ${place.run}`;
  const step = place.step === null ? "" : `step ${place.step}`;
  return [run, step].filter((part) => part !== "").join(", ") || "run";
}
