/**
 * Two runs side by side: their figures, their outputs, and their steps with the differences of the code.
 */

import type { Journal, Run, Step } from "../document/format.ts";
import { sumOf } from "../document/store.ts";
import type { Store } from "../document/store.ts";
import { isEmpty } from "../document/texts.ts";
import { toneOf } from "../shell/outline.ts";
import { linkTo } from "../shell/route.ts";
import { drawNear } from "../text/block.ts";
import { codeBlock, codeDiff } from "../text/code.ts";
import { visible } from "../text/lines.ts";
import { dollars, duration, integer, percent, short } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { fill, h, style } from "../ui/dom.ts";
import { nothing, panel, pill, problem, segmented, shown } from "../ui/parts.ts";

/** Returns the view; null if the page has one journal only. */
export function compareView(store: Store): HTMLElement {
  const [one, other] = store.journals;
  const [first, second] = [one?.runs[0], other?.runs[0]];
  if (one === undefined || other === undefined || first === undefined || second === undefined) {
    return h(
      "div",
      { class: "view" },
      nothing("This page has one run. `dspy-rlm view RUN --compare OTHER` writes one with two."),
    );
  }
  return h(
    "div",
    { class: "view compare" },
    figures(one, other),
    outputs(store, first, second),
    steps(store, first, second),
  );
}

interface Figure {
  readonly name: string;
  readonly values: readonly [number | null, number | null];
  readonly text: (value: number | null) => string;
}

function figures(one: Journal, other: Journal): HTMLElement {
  const both = (part: (journal: Journal) => number | null): [number | null, number | null] => [
    part(one),
    part(other),
  ];
  const sub = (journal: Journal): number => journal.calls.filter((call) => call.is_sub_call).length;
  const rows: Figure[] = [
    { name: "Steps", values: both((journal) => journal.runs[0]?.steps.length ?? 0), text: integer },
    {
      name: "Failed cells",
      values: both((journal) =>
        journal.runs.flatMap((run) => run.steps).filter((step) => step.outcome === "failed").length
      ),
      text: integer,
    },
    { name: "Sub-calls", values: both(sub), text: integer },
    { name: "Sub-runs", values: both((journal) => journal.runs.length - 1), text: integer },
    {
      name: "Tokens in",
      values: both((journal) => sumOf(journal.calls).inputTokens.known),
      text: short,
    },
    {
      name: "Tokens out",
      values: both((journal) => sumOf(journal.calls).outputTokens.known),
      text: short,
    },
    { name: "Cost", values: both((journal) => sumOf(journal.calls).cost.known), text: dollars },
    { name: "Time", values: both((journal) => journal.seconds), text: duration },
    { name: "Warnings", values: both((journal) => journal.warnings.length), text: integer },
  ];
  const name = (journal: Journal, index: number): HTMLElement =>
    h(
      "th",
      { scope: "col" },
      h("a", { href: linkTo(index, "r0") }, visible(plain(journal.name || `run ${index + 1}`, 60))),
      " ",
      pill(toneOf(journal.status), journal.status),
    );
  return panel(
    "Figures",
    {},
    h(
      "div",
      { class: "table-box", tabindex: 0, role: "region", "aria-label": "Figures of both runs" },
      h(
        "table",
        { class: "table compare-table" },
        h(
          "thead",
          {},
          h("tr", {}, h("td"), name(one, 0), name(other, 1), h("th", { scope: "col" }, "Change")),
        ),
        h(
          "tbody",
          {},
          rows.map((row) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, row.name),
              h("td", { class: "num" }, row.text(row.values[0])),
              h("td", { class: "num" }, row.text(row.values[1])),
              h("td", { class: "num" }, change(row)),
            )
          ),
        ),
      ),
    ),
  );
}

/** All these figures are better when they are lower. */
function change(row: Figure): HTMLElement | string {
  const [one, other] = row.values;
  if (one === null || other === null || one === other) {
    return "\u2013";
  }
  const better = other < one;
  const sign = better ? "\u2212" : "+";
  const part = one === 0 ? "" : ` (${sign}${percent(Math.abs(other - one) / one)})`;
  return h(
    "span",
    { class: better ? "good" : "warn" },
    `${sign}${row.text(Math.abs(other - one))}${part}`,
  );
}

function outputs(store: Store, one: Run, other: Run): HTMLElement {
  const names = [...new Set([...one.outputs, ...other.outputs].map((output) => output.name))];
  return panel(
    "Outputs",
    {},
    names.length === 0 ? nothing("Neither run has outputs.") : names.map((name) =>
      h(
        "div",
        { class: "pair" },
        h("h3", {}, h("code", {}, visible(plain(name, 80)))),
        [one, other].map((run) => {
          const output = run.outputs.find((candidate) => candidate.name === name);
          return h(
            "div",
            { class: "pair-side" },
            output === undefined ? nothing("none") : shown(
              store,
              output.value,
              (text) => textBlock(text, { className: output.kind === "text" ? "answer" : "json" }),
              output.missing ? "The run ended without it." : "It was not stored.",
            ),
          );
        }),
      )
    ),
  );
}

type Mode = "side" | "changes";

function steps(store: Store, one: Run, other: Run): HTMLElement {
  const list = h("div", { class: "pairs-of-steps" });
  const draw = (mode: Mode): void => {
    const number = Math.max(one.steps.length, other.steps.length);
    fill(
      list,
      Array.from({ length: number }, (_, index) => {
        const section = style(h("section", { class: "lazy pair" }), { "min-height": "12rem" });
        drawNear(section, (into) => {
          into.append(
            h("h3", {}, `Step ${index + 1}`),
            ...(mode === "changes"
              ? [stepChanges(store, one.steps[index], other.steps[index])]
              : [stepSide(store, 0, one.steps[index]), stepSide(store, 1, other.steps[index])]),
          );
        });
        return section;
      }),
    );
  };
  draw("side");
  return panel(
    "Steps",
    {
      tools: segmented<Mode>(
        "How to compare the steps",
        [
          { value: "side", label: "Side by side" },
          { value: "changes", label: "Changes of the code" },
        ],
        "side",
        draw,
      ),
    },
    list,
  );
}

function stepSide(store: Store, journal: number, step: Step | undefined): HTMLElement {
  if (step === undefined) {
    return h("div", { class: "pair-side" }, nothing("No such step."));
  }
  return h(
    "div",
    { class: "pair-side" },
    h(
      "p",
      { class: "pair-head" },
      h("a", { href: linkTo(journal, `r0-s${step.number}`) }, `step ${step.number}`),
      step.error === null ? null : pill("bad", visible(plain(step.error.type, 60))),
      h("span", { class: "quiet" }, duration(step.seconds)),
    ),
    shown(
      store,
      step.code,
      (code) =>
        codeBlock(
          code,
          step.error === null || step.error.line === null
            ? {}
            : { failed: { line: step.error.line, message: step.error.type } },
        ),
      "No code in this turn.",
    ),
    isEmpty(step.shown) ? null : shown(store, step.shown, (text) => textBlock(text)),
  );
}

function stepChanges(store: Store, one: Step | undefined, other: Step | undefined): HTMLElement {
  const root = h("div", { class: "pair-whole" });
  Promise.all([store.read(one?.code ?? ""), store.read(other?.code ?? "")]).then(
    ([before, now]) =>
      fill(root, before === now ? nothing("The code is the same.") : codeDiff(before, now)),
    (error: unknown) => fill(root, problem(error)),
  );
  return root;
}
