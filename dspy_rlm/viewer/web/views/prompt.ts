/**
 * The prompt of a step: its messages, with the differences to the prompt of the step before.
 */

import type { Message, Step } from "../document/format.ts";
import { callsAt, promptOf, stepBefore } from "../document/store.ts";
import { isEmpty, sameText } from "../document/texts.ts";
import type { Context } from "../shell/context.ts";
import { link } from "../shell/context.ts";
import { diffBlock } from "../text/code.ts";
import { countChanges, diffLines } from "../text/diff.ts";
import { visible } from "../text/lines.ts";
import { count, integer } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { fill, h } from "../ui/dom.ts";
import { copyButton, nothing, panel, pill, problem, segmented, shown } from "../ui/parts.ts";

type Mode = "changes" | "whole";

/** Returns the view. */
export function promptView(context: Context, step: Step): HTMLElement {
  const messages = promptOf(context.journal, step);
  const before = stepBefore(context.run, step.number);
  const old = promptOf(context.journal, before);
  const root = h("div", { class: "view prompt-view" });
  if (messages === null) {
    fill(
      root,
      nothing("The prompt of this step is not in the journal."),
      replyPanel(context, step),
    );
    return root;
  }
  const list = h("div", { class: "messages" });
  const draw = (mode: Mode): void => {
    context.choices.set("prompt", mode);
    fill(
      list,
      mode === "whole" || old === null
        ? messages.map((message) => messagePanel(context, message))
        : changedMessages(context, messages, old),
    );
  };
  const mode = old === null ? "whole" : context.choices.get<Mode>("prompt", "changes");
  draw(mode);
  fill(
    root,
    h(
      "div",
      { class: "view-bar" },
      h(
        "p",
        { class: "quiet" },
        `${count(messages.length, "message")}, `,
        count(
          messages.reduce((sum, one) => sum + context.store.chars(one.content), 0),
          "character",
        ),
      ),
      before === undefined || old === null ? null : segmented<Mode>(
        "What to show of the prompt",
        [
          { value: "changes", label: `Changes since step ${before.number}` },
          { value: "whole", label: "Whole prompt" },
        ],
        mode,
        draw,
      ),
    ),
    list,
    replyPanel(context, step),
  );
  return root;
}

/** Returns a message as a part of the page. */
export function messagePanel(context: Context, message: Message, folds = true): HTMLElement {
  return panel(
    head(context, message),
    {
      className: `message role-${roleClass(message.role)}`,
      tools: copyButton(context.store, message.content, "Copy the message"),
    },
    shown(context.store, message.content, (text) => textBlock(text, { folds }), "No text."),
    isEmpty(message.more)
      ? null
      : shown(context.store, message.more, (text) => textBlock(text, { className: "json" })),
  );
}

function head(context: Context, message: Message): HTMLElement {
  return h(
    "span",
    { class: "message-head" },
    visible(plain(message.role, 40)),
    h("span", { class: "quiet" }, count(context.store.chars(message.content), "character")),
  );
}

function roleClass(role: string): string {
  return ["system", "user", "assistant", "tool"].includes(role) ? role : "other";
}

/** Returns the messages; those that the prompt before had too are one line each. */
function changedMessages(
  context: Context,
  messages: readonly Message[],
  old: readonly Message[],
): HTMLElement[] {
  return messages.map((message, index) => {
    const was = old[index];
    if (was === undefined) {
      const added = messagePanel(context, message);
      added.classList.add("added");
      added.querySelector("h2")?.append(pill("info", "new"));
      return added;
    }
    if (sameText(was.content, message.content) && was.role === message.role) {
      return unchanged(context, message);
    }
    return changed(context, message, was);
  });
}

function unchanged(context: Context, message: Message): HTMLElement {
  const details = h(
    "details",
    {
      class: "unchanged",
      ontoggle: () => {
        if (details.open && details.childElementCount === 1) {
          details.append(shown(context.store, message.content, (text) => textBlock(text)));
        }
      },
    },
    h("summary", {}, head(context, message), h("span", { class: "quiet" }, "unchanged")),
  );
  return details;
}

function changed(context: Context, message: Message, was: Message): HTMLElement {
  const body = h("div", { "aria-busy": "true" });
  const changes = h("span", { class: "quiet" });
  Promise.all([context.store.read(was.content), context.store.read(message.content)]).then(
    ([before, now]) => {
      const lines = diffLines(before, now);
      const { added, removed } = countChanges(lines);
      fill(changes, `+${integer(added)} \u2212${integer(removed)} lines`);
      fill(body, diffBlock(lines, { className: "text" }));
    },
    (error: unknown) => fill(body, problem(error)),
  ).finally(() => body.removeAttribute("aria-busy"));
  return panel(
    head(context, message),
    {
      className: `message role-${roleClass(message.role)}`,
      tools: [changes, copyButton(context.store, message.content, "Copy the message")],
    },
    body,
  );
}

/** Returns the replies of the root LM in this turn: more than one if one was refused. */
function replyPanel(context: Context, step: Step): HTMLElement[] {
  return callsAt(context.journal, step.root_calls).flatMap((call, number) =>
    call.replies.map((reply) =>
      panel(
        h(
          "span",
          { class: "message-head" },
          step.root_calls.length > 1 ? `reply ${number + 1}` : "reply",
          h("span", { class: "quiet" }, visible(plain(call.model, 80))),
        ),
        {
          className: "message role-assistant",
          tools: [
            h(
              "a",
              { href: link(context, { kind: "call", call: step.root_calls[number] ?? 0 }) },
              `call ${step.root_calls[number]}`,
            ),
            copyButton(context.store, reply, "Copy the reply"),
          ],
        },
        shown(context.store, reply, (text) => textBlock(text), "The reply is empty."),
      )
    )
  );
}
