/**
 * One call: its prompt, its replies, its attempts.
 */

import type { Call, CallIndex, ToolCall } from "../document/format.ts";
import { isEmpty } from "../document/texts.ts";
import type { Context } from "../shell/context.ts";
import { link, runName } from "../shell/context.ts";
import { visible } from "../text/lines.ts";
import { count, dollars, duration, integer } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { h } from "../ui/dom.ts";
import type { Tone } from "../ui/parts.ts";
import { copyButton, facts, iconButton, nothing, panel, pill, shown } from "../ui/parts.ts";
import { messagePanel } from "./prompt.ts";

const TONES: Readonly<Record<Call["status"], Tone>> = {
  answered: "good",
  cut: "warn",
  empty: "warn",
  refused: "warn",
  failed: "bad",
  running: "info",
};

/** Returns the pill of the status of a call. */
export function callPill(call: Call): HTMLElement {
  return pill(TONES[call.status], `${call.status}${call.cached ? " \u00b7 cached" : ""}`);
}

/** Returns the details of a call. */
export function callDetail(
  context: Context,
  index: CallIndex,
  options: { readonly close?: () => void } = {},
): HTMLElement {
  const { journal, store } = context;
  const call = journal.calls[index];
  if (call === undefined) {
    return nothing("There is no such call in this journal.");
  }
  const messages = call.prompt === null ? null : journal.prompts[call.prompt]?.messages;
  return h(
    "article",
    { class: "detail", "aria-label": `Call ${index}` },
    h(
      "div",
      { class: "detail-head" },
      h("h2", {}, h("a", { href: link(context, { kind: "call", call: index }) }, `Call ${index}`)),
      callPill(call),
      call.attempts.length > 1
        ? h("span", { class: "quiet" }, `${call.attempts.length} tries`)
        : null,
      options.close === undefined ? null : iconButton("close", "Close the call", options.close),
    ),
    facts([
      ["Function", visible(plain(call.kind, 80))],
      ["Model", visible(plain(call.model, 120))],
      ["From", place(context, call)],
      ["Latency", duration(call.seconds)],
      ["Tokens in", integer(call.input_tokens)],
      ["Tokens out", integer(call.output_tokens)],
      ["Cost", dollars(call.cost)],
      call.finish_reason !== "" && ["Finish reason", visible(plain(call.finish_reason, 60))],
    ]),
    equalCalls(context, call, index),
    isEmpty(call.error) && call.error_type === "" ? null : panel(
      h(
        "span",
        { class: "bad" },
        visible(plain(call.error_type || "Error", 80)),
        call.error_status === null ? null : ` \u00b7 HTTP ${call.error_status}`,
      ),
      { className: "error-panel" },
      shown(store, call.error, (text) => textBlock(text)),
    ),
    replies(context, call),
    messages === null || messages === undefined
      ? nothing("The prompt is not in the journal.")
      : messages.map((message) => messagePanel(context, message)),
    attempts(context, call),
    isEmpty(call.options) ? null : h(
      "details",
      { class: "unchanged" },
      h("summary", {}, "Options"),
      shown(store, call.options, (text) => textBlock(text, { className: "json" })),
    ),
  );
}

function place(context: Context, call: Call): HTMLElement {
  if (call.step === null) {
    return h("a", { href: link(context, { kind: "run", run: call.run }) }, runName(call.run));
  }
  return h(
    "a",
    { href: link(context, { kind: "step", run: call.run, step: call.step }) },
    call.run === 0 ? `step ${call.step}` : `${runName(call.run).toLowerCase()}, step ${call.step}`,
  );
}

/** Links that are shown to calls with the same prompt. */
const MOST_EQUALS = 20;

function equalCalls(context: Context, call: Call, index: CallIndex): HTMLElement | null {
  const others = (call.group === null ? [] : context.journal.groups[call.group] ?? [])
    .filter((other) => other !== index);
  if (others.length === 0) {
    return null;
  }
  return h(
    "p",
    { class: "note warn" },
    `${count(others.length, "other call")} with the same prompt: `,
    others.slice(0, MOST_EQUALS).map((other, at) => [
      at === 0 ? "" : ", ",
      h("a", { href: link(context, { kind: "call", call: other }) }, `call ${other}`),
    ]),
    others.length > MOST_EQUALS ? ", \u2026" : "",
  );
}

function replies(context: Context, call: Call): HTMLElement[] {
  if (call.replies.length === 0 && call.status !== "failed") {
    return [nothing(call.status === "running" ? "No reply yet." : "No reply was recorded.")];
  }
  return call.replies.map((reply, number) =>
    panel(
      h(
        "span",
        { class: "message-head" },
        call.replies.length > 1 ? `answer ${number + 1}` : "answer",
        h("span", { class: "quiet" }, count(context.store.chars(reply), "character")),
      ),
      {
        className: "message role-assistant",
        tools: copyButton(context.store, reply, "Copy the answer"),
      },
      shown(context.store, reply, (text) => textBlock(text), "The reply is empty."),
      call.status === "cut"
        ? h("p", { class: "note warn" }, "The reply ended at its limit of tokens.")
        : null,
    )
  );
}

function attempts(context: Context, call: Call): HTMLElement | null {
  if (call.attempts.length < 2 && call.attempts.every((one) => isEmpty(one.error))) {
    return null;
  }
  const cell = (text: string): HTMLElement => h("td", { class: "num" }, text);
  return panel(
    count(call.attempts.length, "attempt"),
    {},
    h(
      "div",
      { class: "table-box", tabindex: 0, role: "region", "aria-label": "Attempts" },
      h(
        "table",
        { class: "table" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["#", "Latency", "Tokens in", "Tokens out", "Cost", "Outcome"].map((name) =>
              h("th", { scope: "col" }, name)
            ),
          ),
        ),
        h(
          "tbody",
          {},
          call.attempts.map((attempt, number) =>
            h(
              "tr",
              {},
              cell(String(number + 1)),
              cell(duration(attempt.seconds)),
              cell(integer(attempt.input_tokens)),
              cell(integer(attempt.output_tokens)),
              cell(dollars(attempt.cost)),
              h(
                "td",
                {},
                isEmpty(attempt.error)
                  ? attempt.cut ? "cut" : attempt.cached ? "cached" : "answered"
                  : shown(context.store, attempt.error, (text) => visible(plain(text, 300))),
              ),
            )
          ),
        ),
      ),
    ),
  );
}

/** Returns the details of a tool call. */
export function toolDetail(context: Context, tool: ToolCall, open: boolean): HTMLElement {
  const { store } = context;
  const failed = tool.error_type !== "" || !isEmpty(tool.error);
  const part = (title: string, text: ToolCall["result"]): HTMLElement | null =>
    isEmpty(text) ? null : h(
      "div",
      { class: "tool-part" },
      h("h3", {}, title),
      shown(store, text, (whole) => textBlock(whole, { className: "json" })),
    );
  const parts = [
    part("Arguments", tool.arguments),
    part("Result", tool.result),
    part(tool.error_type === "" ? "Error" : plain(tool.error_type, 80), tool.error),
  ];
  return h(
    "details",
    { class: "tool", open },
    h(
      "summary",
      {},
      h("code", {}, visible(plain(tool.name, 80))),
      failed ? pill("bad", "failed") : tool.seconds === null ? pill("info", "no end") : null,
      pill("quiet", tool.is_tool ? "tool" : "REPL function"),
      h("span", { class: "quiet" }, duration(tool.seconds)),
    ),
    parts.every((one) => one === null) ? nothing("Its LM calls are in the grid.") : parts,
  );
}
