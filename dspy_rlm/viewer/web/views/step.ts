/**
 * A step: the reasoning, the code beside its output, and what the cell did.
 */

import type { Step } from "../document/format.ts";
import { callsAt, stepBefore, sumOf, toolsOf } from "../document/store.ts";
import { isEmpty, sameText } from "../document/texts.ts";
import type { Context } from "../shell/context.ts";
import { link, runName, stepLink } from "../shell/context.ts";
import { stepState, toneOf } from "../shell/outline.ts";
import { codeBlock, codeDiff, diffBlock } from "../text/code.ts";
import { diffLines } from "../text/diff.ts";
import { visible } from "../text/lines.ts";
import { bytes, count, dollars, duration, integer, short, total } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { fill, h } from "../ui/dom.ts";
import {
  copyButton,
  facts,
  iconButton,
  panel,
  pill,
  problem,
  segmented,
  shown,
} from "../ui/parts.ts";
import { waterfall } from "./waterfall.ts";

/** Returns the view. */
export function stepView(context: Context, step: Step): HTMLElement {
  return h(
    "div",
    { class: "view step-view" },
    summary(context, step),
    isEmpty(step.reasoning) ? null : panel(
      "Reasoning",
      {
        className: "reasoning",
        tools: copyButton(context.store, step.reasoning, "Copy the reasoning"),
      },
      shown(context.store, step.reasoning, (text) => textBlock(text, { className: "prose" })),
    ),
    h("div", { class: "beside" }, codePanel(context, step), outputPanel(context, step)),
    subRuns(context, step),
    panel("Time", { className: "time-panel" }, waterfall(context, { step, compact: true })),
  );
}

function summary(context: Context, step: Step): HTMLElement {
  const { journal } = context;
  const calls = sumOf([...callsAt(journal, step.root_calls), ...callsAt(journal, step.sub_calls)]);
  const tools = toolsOf(journal, step).filter((tool) => tool.is_tool).length;
  return facts([
    ["Took", duration(step.seconds)],
    ["Cell", step.cell_seconds === null ? "not run" : duration(step.cell_seconds)],
    [
      "Sub-calls",
      step.sub_calls.length === 0
        ? "0"
        : h("a", { href: stepLink(context, step.number, "calls") }, integer(step.sub_calls.length)),
    ],
    tools > 0 && ["Tool calls", integer(tools)],
    ["Tokens in", total(calls.inputTokens, short)],
    ["Tokens out", total(calls.outputTokens, short)],
    ["Cost", total(calls.cost, dollars)],
    step.checkpoint_bytes !== null && ["Checkpoint", bytes(step.checkpoint_bytes)],
    step.assigned.length > 0 && [
      "Assigned",
      h(
        "span",
        { class: "names" },
        step.assigned.slice(0, 12).map((name) => h("code", {}, visible(name))),
        step.assigned.length > 12 ? ` and ${step.assigned.length - 12} more` : null,
      ),
    ],
  ]);
}

/** Returns the pill of what became of a step. */
export function outcomePill(context: Context, step: Step): HTMLElement {
  switch (stepState(context.run, step)) {
    case "good":
      return pill("good", "completed");
    case "submitted":
      return pill("good", "submitted");
    case "bad":
      return pill("bad", step.error === null ? "failed" : visible(plain(step.error.type, 60)));
    case "running":
      return pill("info", "running");
    default:
      return pill("warn", step.unfinished ? "unfinished" : "no cell");
  }
}

function codePanel(context: Context, step: Step): HTMLElement {
  const { store } = context;
  const before = stepBefore(context.run, step.number);
  const body = h("div");
  const draw = (mode: "code" | "changes"): void => {
    context.choices.set("code", mode);
    fill(body, mode === "code" || before === undefined ? wholeCode(context, step) : changes());
  };
  const changes = (): HTMLElement => {
    const root = h("div");
    if (before !== undefined) {
      Promise.all([store.read(before.code), store.read(step.code)]).then(
        ([old, now]) => fill(root, codeDiff(old, now)),
        (error: unknown) => fill(root, problem(error)),
      );
    }
    return root;
  };
  const mode = before === undefined
    ? "code"
    : context.choices.get<"code" | "changes">("code", "code");
  draw(mode);
  return panel("Code", {
    className: "code-panel",
    tools: [
      before === undefined ? null : segmented(
        "What to show of the code",
        [
          { value: "code", label: "Code" },
          { value: "changes", label: `Changes since step ${before.number}` },
        ],
        mode,
        draw,
      ),
      copyButton(store, step.code, "Copy the code"),
    ],
  }, body);
}

function wholeCode(context: Context, step: Step): HTMLElement {
  const { store } = context;
  return shown(
    store,
    step.code,
    (code) => {
      const root = h("div");
      const { error } = step;
      if (error === null || error.line === null) {
        fill(root, codeBlock(code));
      } else {
        const { line, type } = error;
        store.read(error.message).then(
          (message) =>
            fill(root, codeBlock(code, { failed: { line, message: errorText(type, message) } })),
          (problemOf: unknown) => fill(root, problem(problemOf)),
        );
      }
      return root;
    },
    "No code in this turn.",
  );
}

function errorText(type: string, message: string): string {
  return message === "" ? type : `${type}: ${message}`;
}

type OutputMode = "shown" | "all" | "difference";

function outputPanel(context: Context, step: Step): HTMLElement {
  const { store } = context;
  const differs = !sameText(step.output, step.shown) && !isEmpty(step.shown);
  const body = h("div");
  const draw = (mode: OutputMode): void => {
    context.choices.set("output", mode);
    fill(body, output(context, step, mode));
  };
  const mode = differs ? context.choices.get<OutputMode>("output", "shown") : "all";
  if (differs) {
    draw(mode);
  } else {
    fill(body, output(context, step, "all"));
  }
  return panel(
    "Output",
    {
      className: "output-panel",
      tools: [
        differs
          ? segmented<OutputMode>(
            "What to show of the output",
            [
              { value: "shown", label: "Root LM saw" },
              { value: "all", label: "Full output" },
              { value: "difference", label: "Difference" },
            ],
            mode,
            draw,
          )
          : null,
        copyButton(store, step.output, "Copy the full output"),
      ],
    },
    step.shortened ? shortenedNote(step) : null,
    errorNote(context, step),
    body,
  );
}

function shortenedNote(step: Step): HTMLElement {
  return h(
    "p",
    { class: "note warn" },
    `The root LM saw ${integer(step.shown_chars)} of ${count(step.output_chars, "character")}.`,
  );
}

function errorNote(context: Context, step: Step): HTMLElement | null {
  const { error } = step;
  if (error === null) {
    return step.state_lost
      ? h("p", { class: "note warn" }, "The definitions of earlier cells were lost here.")
      : null;
  }
  return h(
    "details",
    { class: "traceback", open: error.line === null },
    h(
      "summary",
      {},
      h("strong", { class: "bad" }, visible(plain(error.type, 80))),
      error.line === null ? null : ` in line ${error.line}`,
      " \u00b7 traceback",
    ),
    shown(
      context.store,
      isEmpty(error.traceback) ? error.message : error.traceback,
      (text) => textBlock(text),
      "No traceback was recorded.",
    ),
    step.state_lost
      ? h("p", { class: "note warn" }, "The definitions of earlier cells were lost here.")
      : null,
  );
}

function output(context: Context, step: Step, mode: OutputMode): HTMLElement {
  const { store } = context;
  if (mode === "difference") {
    const root = h("div");
    Promise.all([store.read(step.output), store.read(step.shown)]).then(
      ([all, seen]) =>
        fill(
          root,
          diffBlock(diffLines(all, seen), {
            className: "text seen-diff",
            added: "from the harness",
            removed: "not seen",
            removedLines: 12,
          }),
        ),
      (error: unknown) => fill(root, problem(error)),
    );
    return root;
  }
  const text = mode === "shown" ? step.shown : step.output;
  const empty = step.outcome === null ? "No cell was run." : "The cell printed nothing.";
  return shown(store, text, (whole) => textBlock(whole), empty);
}

function subRuns(context: Context, step: Step): HTMLElement | null {
  if (step.sub_runs.length === 0) {
    return null;
  }
  const { journal } = context;
  return panel(
    count(step.sub_runs.length, "sub-run"),
    { className: "sub-runs" },
    h(
      "ul",
      { class: "cards" },
      step.sub_runs.map((index) => {
        const run = journal.runs[index];
        return run === undefined ? null : h(
          "li",
          {},
          h(
            "a",
            { class: "card", href: link(context, { kind: "run", run: index }) },
            h("span", { class: "card-title" }, runName(index)),
            pill(toneOf(run.status), run.status),
            h(
              "span",
              { class: "card-facts" },
              `${count(run.steps.length, "step")} \u00b7 ${duration(run.seconds)}`,
            ),
          ),
        );
      }),
    ),
  );
}

/** Returns the buttons to the steps before and after. */
export function stepButtons(context: Context, step: Step): HTMLElement {
  const { steps } = context.run;
  const at = steps.indexOf(step);
  const to = (offset: number): void => {
    const other = steps[at + offset];
    if (other !== undefined) {
      context.go(stepLink(context, other.number, context.route.view));
    }
  };
  const previous = iconButton("left", "Previous step (k)", () => to(-1));
  const next = iconButton("right", "Next step (j)", () => to(1));
  previous.disabled = at <= 0;
  next.disabled = at >= steps.length - 1;
  return h("span", { class: "step-buttons" }, previous, next);
}
