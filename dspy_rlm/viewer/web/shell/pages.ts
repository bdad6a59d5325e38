/**
 * The page of a route: which run or step it is about, its tabs, and the view of the open one.
 */

import type { CallIndex, Run, Step } from "../document/format.ts";
import { stepOf, subCallsOf, toolsOf } from "../document/store.ts";
import { integer } from "../text/numbers.ts";
import { h } from "../ui/dom.ts";
import { nothing, panel } from "../ui/parts.ts";
import { budgetView } from "../views/budget.ts";
import { toolDetail } from "../views/call.ts";
import { callsView } from "../views/calls.ts";
import { inputsView } from "../views/inputs.ts";
import { outputsView } from "../views/outputs.ts";
import { overviewView } from "../views/overview.ts";
import { promptView } from "../views/prompt.ts";
import { setupView } from "../views/setup.ts";
import { stepView } from "../views/step.ts";
import { timelineView } from "../views/timeline.ts";
import { transcriptView } from "../views/transcript.ts";
import { variablesView } from "../views/variables.ts";
import type { Context } from "./context.ts";
import type { Route } from "./route.ts";

export interface Tab {
  /** As in the permalink; empty for the first. */
  readonly view: string;
  readonly label: string;
  readonly count?: string;
  readonly draw: (context: Context) => HTMLElement;
}

/** What a route is about, once a call is placed in its step, and a warning in its run. */
export interface Subject {
  readonly runIndex: number;
  readonly step: Step | undefined;
  readonly view: string;
  readonly call: CallIndex | null;
  readonly tool: number | null;
}

/** Returns the subject of a route; the root run if it leads nowhere. */
export function subjectOf(context: Pick<Context, "journal">, route: Route): Subject {
  const { journal } = context;
  const { target, view } = route;
  const at = (
    runIndex: number,
    step: number | null,
    rest: Partial<Subject> = {},
  ): Subject => {
    const run = journal.runs[runIndex];
    return run === undefined
      ? { runIndex: 0, step: undefined, view: "", call: null, tool: null }
      : { runIndex, step: stepOf(run, step), view, call: null, tool: null, ...rest };
  };
  switch (target.kind) {
    case "run":
      return at(target.run, null, { call: callOf(journal, route) });
    case "step":
      return at(target.run, target.step, { call: callOf(journal, route) });
    case "call": {
      const call = journal.calls[target.call];
      return at(call?.run ?? 0, call?.step ?? null, {
        view: call === undefined ? "" : "calls",
        call: call === undefined ? null : target.call,
      });
    }
    case "tool": {
      const tool = journal.tools[target.tool];
      return at(tool?.run ?? 0, tool?.step ?? null, {
        view: tool === undefined ? "" : "calls",
        tool: tool === undefined ? null : target.tool,
      });
    }
    default:
      return at(0, null, { view: "" });
  }
}

/** Returns the call that is open beside a grid, as in `#r0/calls/17`. */
function callOf(journal: Context["journal"], route: Route): CallIndex | null {
  const [call] = route.rest;
  return route.view === "calls" && call !== undefined && journal.calls[Number(call)] !== undefined
    ? Number(call)
    : null;
}

/** Returns the tabs of a subject. */
export function tabsOf(context: Context, subject: Subject): readonly Tab[] {
  return subject.step === undefined
    ? runTabs(context, subject)
    : stepTabs(context, subject, subject.step);
}

function runTabs(context: Context, subject: Subject): Tab[] {
  const { run, runIndex, journal } = context;
  const calls = runCalls(context, run);
  const tabs: Tab[] = [
    { view: "", label: "Overview", draw: overviewView },
    { view: "steps", label: "Steps", count: integer(run.steps.length), draw: transcriptView },
    { view: "timeline", label: "Timeline", draw: timelineView },
    {
      view: "calls",
      label: "Calls",
      count: integer(calls.length),
      draw: (inside) => callsView(inside, calls, subject.call),
    },
    { view: "inputs", label: "Inputs", count: integer(run.inputs.length), draw: inputsView },
    { view: "outputs", label: "Outputs", count: integer(run.outputs.length), draw: outputsView },
    {
      view: "variables",
      label: "Variables",
      count: integer(run.variables.length),
      draw: variablesView,
    },
  ];
  if (runIndex === 0 && (journal.budget.length > 0 || journal.totals.length > 0)) {
    tabs.push({ view: "budget", label: "Budget", draw: budgetView });
  }
  tabs.push({ view: "setup", label: "Setup", draw: setupView });
  return tabs;
}

/** The sub-calls of a run and those below it; then its own calls that no step has. */
function runCalls(context: Context, run: Run): CallIndex[] {
  const own = [...run.setup, ...run.extraction];
  const all = new Set([...subCallsOf(context.journal, context.runIndex), ...own]);
  return [...all].sort((one, other) => one - other);
}

function stepTabs(context: Context, subject: Subject, step: Step): Tab[] {
  const all = [...step.root_calls, ...step.sub_calls];
  return [
    { view: "", label: "Cell", draw: (inside) => stepView(inside, step) },
    { view: "prompt", label: "Prompt", draw: (inside) => promptView(inside, step) },
    {
      view: "calls",
      label: "Calls",
      count: integer(all.length),
      draw: (inside) => callsView(inside, all, subject.call, toolsPanel(context, subject, step)),
    },
  ];
}

/** Tool calls that are listed. */
const MOST_TOOLS = 200;

function toolsPanel(context: Context, subject: Subject, step: Step): HTMLElement | null {
  const tools = toolsOf(context.journal, step);
  if (tools.length === 0) {
    return null;
  }
  return panel(
    "Functions and tools that the cell called",
    { className: "tools" },
    tools.slice(0, MOST_TOOLS).map((tool, number) =>
      toolDetail(context, tool, step.tools[number] === subject.tool)
    ),
    tools.length > MOST_TOOLS ? nothing(`and ${tools.length - MOST_TOOLS} more`) : null,
  );
}

/** Returns the row of links to the tabs. */
export function tabBar(
  tabs: readonly Tab[],
  open: Tab,
  linkOf: (tab: Tab) => string,
): HTMLElement {
  return h(
    "nav",
    { class: "tabs", "aria-label": "Views" },
    tabs.map((tab, index) =>
      h(
        "a",
        {
          href: linkOf(tab),
          class: "tab",
          "aria-current": tab === open ? "page" : null,
          "aria-keyshortcuts": String(index + 1),
        },
        tab.label,
        tab.count === undefined || tab.count === "0"
          ? null
          : h("span", { class: "tab-count" }, tab.count),
      )
    ),
  );
}
