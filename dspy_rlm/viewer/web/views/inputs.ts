/**
 * The inputs of a run: their size, a map of the parts that LMs saw, and the text itself with the quotes in it.
 */

import type { CoveredText, Input, Quote } from "../document/format.ts";
import { isEmpty } from "../document/texts.ts";
import type { Context } from "../shell/context.ts";
import { link } from "../shell/context.ts";
import { visible } from "../text/lines.ts";
import { bytes, count, integer, percent } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { fill, h } from "../ui/dom.ts";
import { facts, nothing, panel, shown } from "../ui/parts.ts";
import { coverageMap } from "./coverage_map.ts";
import { inputText } from "./input_text.ts";

/** Texts of an input, such as pages, whose maps are shown at once. */
const MOST_TEXTS = 100;

/** Returns the view; the route may name an input, a text of it and a position. */
export function inputsView(context: Context): HTMLElement {
  const { inputs } = context.run;
  if (inputs.length === 0) {
    return h("div", { class: "view" }, nothing("This run has no inputs."));
  }
  return h(
    "div",
    { class: "view inputs-view" },
    inputs.some((input) => input.coverage !== null)
      ? h(
        "ul",
        { class: "legend" },
        h("li", {}, h("span", { class: "key seen", "aria-hidden": "true" }), "shown to an LM"),
        h("li", {}, h("span", { class: "key unseen", "aria-hidden": "true" }), "not shown"),
        h(
          "li",
          {},
          h("span", { class: "key quote", "aria-hidden": "true" }),
          "quoted in an output",
        ),
      )
      : h(
        "p",
        { class: "note" },
        "Coverage was not tracked in this run: ",
        h("code", {}, "track_coverage=True"),
        " tracks it.",
      ),
    inputs.map((input) => inputPanel(context, input)),
  );
}

function inputPanel(context: Context, input: Input): HTMLElement {
  const [name, path, at] = context.route.rest;
  const target = name === input.name
    ? { path: path ?? "", at: at === undefined ? null : Number(at) }
    : null;
  const size = input.kind === "text" ? count(input.size, "character") : bytes(input.size);
  return panel(
    h(
      "span",
      { class: "message-head" },
      h("code", {}, visible(plain(input.name, 80))),
      h("span", { class: "quiet" }, visible(plain(input.annotation, 80))),
    ),
    { className: "input" },
    facts([
      ["Kind", input.kind.replace("_", " ")],
      ["Size", size],
      !isEmpty(input.path) && ["Path", shown(context.store, input.path, (text) => visible(text))],
      input.coverage !== null && ["Shown to LMs", percent(input.coverage.fraction)],
      input.coverage?.read !== null && input.coverage !== null &&
      ["Read by code", percent(input.coverage.read ?? 0)],
      input.coverage !== null && ["Coverage", input.coverage.exact ? "tracked" : "estimated"],
    ]),
    isEmpty(input.description) || input.description === `\${${input.name}}` ? null : shown(
      context.store,
      input.description,
      (text) => h("p", { class: "quiet" }, visible(text)),
    ),
    isEmpty(input.note)
      ? null
      : shown(context.store, input.note, (text) => h("p", { class: "note" }, visible(text))),
    maps(context, input, target),
    input.coverage === null || input.coverage.texts.every((text) => text.text === null)
      ? shown(context.store, input.preview, (text) => textBlock(text), "No preview was recorded.")
      : null,
  );
}

function maps(
  context: Context,
  input: Input,
  target: { readonly path: string; readonly at: number | null } | null,
): HTMLElement | null {
  if (input.coverage === null) {
    return null;
  }
  const { texts } = input.coverage;
  const list = h("ul", { class: "maps" });
  const viewer = h("div", { class: "input-viewer" });
  const draw = (until: number): void => {
    const rows = texts.slice(list.childElementCount, until).map((text) =>
      mapRow(context, input, text, (position) => open(text, position))
    );
    list.append(...rows);
  };
  const open = (text: CoveredText, position: number | null): void => {
    if (text.text === null) {
      fill(
        viewer,
        nothing("The text of this input is not in the page: it is too long, or was not stored."),
      );
      return;
    }
    fill(
      viewer,
      text.path === ""
        ? null
        : h("h3", {}, h("code", {}, visible(plain(input.name + text.path, 200)))),
      shown(
        context.store,
        text.text,
        (whole) => inputText(whole, text, quotesOf(context, input, text), position),
        "The text is empty.",
      ),
    );
  };
  draw(MOST_TEXTS);
  const more = texts.length > MOST_TEXTS
    ? h(
      "button",
      {
        type: "button",
        class: "unfold",
        onclick: (event: MouseEvent) => {
          (event.currentTarget as HTMLElement).remove();
          draw(texts.length);
        },
      },
      `Show ${count(texts.length - MOST_TEXTS, "more text")}`,
    )
    : null;
  const first = texts.find((text) => text.path === (target?.path ?? "")) ??
    (texts.length === 1 ? texts[0] : undefined);
  if (first !== undefined && (target !== null || texts.length === 1)) {
    open(first, target?.at ?? null);
  }
  return h("div", {}, list, more, viewer);
}

function mapRow(
  context: Context,
  input: Input,
  text: CoveredText,
  open: (position: number | null) => void,
): HTMLElement {
  const quotes = quotesOf(context, input, text);
  let seen = 0;
  for (let index = 0; index + 1 < text.seen.length; index += 2) {
    seen += (text.seen[index + 1] ?? 0) - (text.seen[index] ?? 0);
  }
  const fraction = text.chars === 0 ? 1 : Math.min(1, seen / text.chars);
  const name = text.path === "" ? input.name : text.path;
  const button = h(
    "button",
    {
      type: "button",
      class: "map-row",
      "aria-label":
        `Open ${plain(name, 120)}: ${percent(fraction)} of ${count(text.chars, "character")} ` +
        `shown to LMs${quotes.length > 0 ? `, ${count(quotes.length, "quote")}` : ""}`,
      onclick: (event: MouseEvent) => {
        const map = button.querySelector(".map")?.getBoundingClientRect();
        const inside = map !== undefined && event.clientX >= map.left && event.clientX <= map.right;
        open(
          inside && map.width > 0
            ? Math.floor(((event.clientX - map.left) / map.width) * text.chars)
            : null,
        );
      },
    },
    h("span", { class: "map-name" }, visible(plain(name, 60))),
    h("span", { class: "map-box" }, coverageMap(text.chars, text.seen, quotes)),
    h("span", { class: "map-number" }, percent(fraction)),
    h("span", { class: "map-number quiet" }, integer(text.chars)),
  );
  return h("li", {}, button);
}

function quotesOf(context: Context, input: Input, text: CoveredText): Quote[] {
  return context.run.quotes.filter((quote) =>
    quote.input === input.name && quote.path === text.path
  );
}

/** Returns the permalink of a place in an input. */
export function inputLink(context: Context, input: string, path: string, at: number): string {
  return link(context, { kind: "run", run: context.runIndex }, "inputs", [input, path, at]);
}
