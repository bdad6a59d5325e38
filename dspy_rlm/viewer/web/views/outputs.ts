/**
 * The outputs of a run, each with its lineage: the parts of the inputs, the sub-calls and the cells that it came from.
 */

import type { Lineage, Output, Quote } from "../document/format.ts";
import { isEmpty } from "../document/texts.ts";
import type { Context } from "../shell/context.ts";
import { link, stepLink } from "../shell/context.ts";
import { visible } from "../text/lines.ts";
import { count } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { h } from "../ui/dom.ts";
import { copyButton, nothing, panel, pill, shown } from "../ui/parts.ts";
import { inputLink } from "./inputs.ts";

/** Links of a kind that are shown at once. */
const MOST = 40;

/** Returns the view. */
export function outputsView(context: Context): HTMLElement {
  const { outputs } = context.run;
  if (outputs.length === 0) {
    return h("div", { class: "view" }, nothing("This run has no outputs."));
  }
  return h(
    "div",
    { class: "view outputs-view" },
    outputs.map((output) => outputPanel(context, output)),
  );
}

/** Returns an output with its value. */
export function outputPanel(context: Context, output: Output, lineage = true): HTMLElement {
  const { store } = context;
  const quotes = context.run.quotes.filter((quote) => quote.output === output.name);
  return panel(
    h(
      "span",
      { class: "message-head" },
      h("code", {}, visible(plain(output.name, 80))),
      h("span", { class: "quiet" }, visible(plain(output.annotation, 80))),
      output.missing ? pill("warn", "missing") : null,
    ),
    {
      className: "output",
      tools: output.missing ? null : copyButton(store, output.value, "Copy the output"),
    },
    shown(
      store,
      output.value,
      (text) =>
        textBlock(text, {
          className: output.kind === "text" ? "answer" : "json",
          shownLines: lineage ? 24 : 12,
        }),
      output.missing ? "The run ended without it." : "It was not stored.",
    ),
    isEmpty(output.note)
      ? null
      : shown(store, output.note, (text) => h("p", { class: "note" }, visible(text))),
    lineage && output.lineage !== null ? lineageOf(context, output.lineage) : null,
    lineage && quotes.length > 0 ? quoteList(context, quotes) : null,
  );
}

function lineageOf(context: Context, lineage: Lineage): HTMLElement | null {
  const column = (title: string, links: readonly HTMLElement[]): HTMLElement =>
    h(
      "div",
      { class: "lineage-column" },
      h("h3", {}, title),
      links.length === 0
        ? h("p", { class: "quiet" }, "none known")
        : h("ul", {}, links.slice(0, MOST).map((one) => h("li", {}, one))),
      links.length > MOST ? h("p", { class: "quiet" }, `and ${links.length - MOST} more`) : null,
    );
  return h(
    "div",
    { class: "lineage", role: "group", "aria-label": "Where it came from" },
    column(
      lineage.exact ? "Input (exact)" : "Input (estimate)",
      lineage.ranges.map((range) =>
        h(
          "a",
          { href: inputLink(context, range.input, range.path, range.start) },
          h("code", {}, visible(plain(range.input + range.path, 60))),
          ` ${range.start.toLocaleString("en-US")}\u2013${range.end.toLocaleString("en-US")}`,
        )
      ),
    ),
    column(
      "Sub-calls",
      lineage.sub_calls.map((call) =>
        h(
          "span",
          {},
          h(
            "a",
            {
              href: call.call === null
                ? stepLink(context, call.step, "calls")
                : link(context, { kind: "call", call: call.call }),
            },
            h(
              "code",
              {},
              visible(plain(call.function, 60)),
              call.row === null ? "" : `[${call.row}]`,
            ),
          ),
          call.verbatim ? pill("good", "verbatim") : null,
        )
      ),
    ),
    column(
      "Cells",
      lineage.steps.map((step) => h("a", { href: stepLink(context, step) }, `step ${step}`)),
    ),
    column("Output", [h("span", {}, "submitted value")]),
  );
}

function quoteList(context: Context, quotes: readonly Quote[]): HTMLElement {
  return h(
    "div",
    { class: "quotes" },
    h("h3", {}, count(quotes.length, "quote"), " in place"),
    h(
      "ol",
      {},
      quotes.slice(0, MOST).map((quote) =>
        h(
          "li",
          { class: "quote-item" },
          h(
            "a",
            { href: inputLink(context, quote.input, quote.path, quote.start) },
            h("code", {}, visible(plain(quote.input + quote.path, 80))),
            quote.line === null ? "" : `, line ${quote.line}`,
          ),
          h(
            "blockquote",
            {},
            inline(context, quote.before, "around"),
            h("mark", {}, inline(context, quote.text, "")),
            inline(context, quote.after, "around"),
          ),
        )
      ),
    ),
    quotes.length > MOST ? h("p", { class: "quiet" }, `and ${quotes.length - MOST} more`) : null,
  );
}

function inline(context: Context, text: Quote["text"], className: string): HTMLElement {
  const element = shown(context.store, text, (whole) => visible(whole, className));
  element.classList.add("inline");
  return element;
}
