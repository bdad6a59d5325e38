/**
 * All steps of a run, one below the other, to read from the beginning to the end. Each is drawn when it comes near the viewport.
 */

import type { Step } from "../document/format.ts";
import type { Context } from "../shell/context.ts";
import { stepLink } from "../shell/context.ts";
import { drawNear } from "../text/block.ts";
import { codeBlock } from "../text/code.ts";
import { count, duration } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { isEmpty } from "../document/texts.ts";
import { h, style } from "../ui/dom.ts";
import { nothing, shown } from "../ui/parts.ts";
import { outcomePill } from "./step.ts";

/** The height of a step that is not drawn yet. */
const ESTIMATE = "20rem";

/** Returns the view. */
export function transcriptView(context: Context): HTMLElement {
  const { steps } = context.run;
  if (steps.length === 0) {
    return h("div", { class: "view" }, nothing("This run has no steps."));
  }
  return h(
    "div",
    { class: "view transcript" },
    steps.map((step) => {
      const section = style(
        h("section", { class: "lazy transcript-step", "aria-label": `Step ${step.number}` }),
        { "min-height": ESTIMATE },
      );
      drawNear(section, (into) => into.append(...parts(context, step)));
      return section;
    }),
  );
}

function parts(context: Context, step: Step): HTMLElement[] {
  const { store } = context;
  const { error } = step;
  return [
    h(
      "div",
      { class: "transcript-head" },
      h("h2", {}, h("a", { href: stepLink(context, step.number) }, `Step ${step.number}`)),
      outcomePill(context, step),
      h(
        "span",
        { class: "quiet" },
        duration(step.seconds),
        step.sub_calls.length > 0 ? ` \u00b7 ${count(step.sub_calls.length, "sub-call")}` : "",
      ),
    ),
    isEmpty(step.reasoning)
      ? h("div")
      : shown(store, step.reasoning, (text) => textBlock(text, { className: "prose" })),
    h(
      "div",
      { class: "beside" },
      shown(store, step.code, (code) =>
        codeBlock(
          code,
          error === null || error.line === null
            ? {}
            : { failed: { line: error.line, message: error.type } },
        ), "No code in this turn."),
      shown(
        store,
        isEmpty(step.shown) ? step.output : step.shown,
        (text) => textBlock(text),
        step.outcome === null ? "No cell was run." : "The cell printed nothing.",
      ),
    ),
  ];
}
