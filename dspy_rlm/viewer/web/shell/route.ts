/**
 * Permalinks: the part of the address after `#`.
 *
 * As in `#r0-s3/prompt`: a run, a step, a call, a tool call or a warning; then the view of it and what the view shows. Ids are
 * those of the page's outline without JavaScript. Those of the second journal begin with `b-`.
 */

export type Target =
  | { readonly kind: "run"; readonly run: number }
  | { readonly kind: "step"; readonly run: number; readonly step: number }
  | { readonly kind: "call"; readonly call: number }
  | { readonly kind: "tool"; readonly tool: number }
  | { readonly kind: "warning"; readonly warning: number }
  | { readonly kind: "compare" };

export interface Route {
  readonly journal: number;
  readonly target: Target;
  /** Empty: the first view. */
  readonly view: string;
  /** The subject of the view, such as the name of an input. */
  readonly rest: readonly string[];
}

export const HOME: Route = {
  journal: 0,
  target: { kind: "run", run: 0 },
  view: "",
  rest: [],
};

/** Returns the route of a fragment; the first run if it is none. */
export function parseRoute(fragment: string): Route {
  const [id = "", view = "", ...rest] = fragment.replace(/^#/, "").split("/").map(decode);
  const journal = id.startsWith("b-") ? 1 : 0;
  const target = parseTarget(id.replace(/^b-/, ""));
  return target === null ? HOME : { journal, target, view, rest };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function parseTarget(id: string): Target | null {
  if (id === "compare") {
    return { kind: "compare" };
  }
  const match = /^(?:r(\d{1,9})(?:-s(\d{1,9}))?|([ctw])(\d{1,9}))$/.exec(id);
  if (match === null) {
    return null;
  }
  const [, run, step, letter, index] = match;
  if (run !== undefined) {
    return step === undefined
      ? { kind: "run", run: Number(run) }
      : { kind: "step", run: Number(run), step: Number(step) };
  }
  const number = Number(index);
  switch (letter) {
    case "c":
      return { kind: "call", call: number };
    case "t":
      return { kind: "tool", tool: number };
    default:
      return { kind: "warning", warning: number };
  }
}

/** Returns the id of a target, as in `r0-s3`. */
export function idOf(target: Target): string {
  switch (target.kind) {
    case "run":
      return `r${target.run}`;
    case "step":
      return `r${target.run}-s${target.step}`;
    case "call":
      return `c${target.call}`;
    case "tool":
      return `t${target.tool}`;
    case "warning":
      return `w${target.warning}`;
    case "compare":
      return "compare";
  }
}

/** Returns the fragment of a place, with its `#`. */
export function linkTo(
  journal: number,
  target: Target | string,
  view = "",
  rest: readonly (string | number)[] = [],
): string {
  const id = typeof target === "string" ? target : idOf(target);
  const parts = [`${journal === 1 ? "b-" : ""}${id}`, ...(view === "" ? [] : [view]), ...rest];
  return `#${parts.map((part) => encodeURIComponent(part)).join("/")}`;
}
