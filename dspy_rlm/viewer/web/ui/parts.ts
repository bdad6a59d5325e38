/**
 * Small parts that all views share: buttons, pills, panels, texts that are read when they are shown.
 */

import { count } from "../text/numbers.ts";
import type { Text } from "../document/format.ts";
import type { Store } from "../document/store.ts";
import { isEmpty } from "../document/texts.ts";
import { type Child, fill, h, icon } from "./dom.ts";
import { type IconName, ICONS } from "./icons.ts";

/** The colour of a pill or an icon. */
export type Tone = "good" | "bad" | "warn" | "info" | "quiet";

/** Returns a small label with a colour. */
export function pill(tone: Tone, ...children: Child[]): HTMLElement {
  return h("span", { class: `pill ${tone}` }, ...children);
}

export function named(name: IconName): SVGSVGElement {
  return icon(ICONS[name]);
}

/** Returns a button with an icon alone; `label` is its name. */
export function iconButton(
  name: IconName,
  label: string,
  onclick: () => void,
  className = "",
): HTMLButtonElement {
  return h(
    "button",
    {
      class: `icon-button ${className}`,
      type: "button",
      title: label,
      "aria-label": label,
      onclick,
    },
    named(name),
  );
}

/** Returns a part of a page with a heading and, at its right, buttons. */
export function panel(
  title: Child,
  options: { readonly tools?: Child; readonly className?: string; readonly id?: string },
  ...children: Child[]
): HTMLElement {
  return h(
    "section",
    { class: `panel ${options.className ?? ""}`, id: options.id },
    h(
      "div",
      { class: "panel-head" },
      h("h2", {}, title),
      h("div", { class: "panel-tools" }, options.tools),
    ),
    h("div", { class: "panel-body" }, ...children),
  );
}

/** Returns a line that replaces missing content. */
export function nothing(text: string): HTMLElement {
  return h("p", { class: "nothing" }, text);
}

/** Returns an element that shows a text once it is read; `draw` creates its content. */
export function shown(
  store: Store,
  text: Text,
  draw: (text: string) => Child,
  empty = "",
): HTMLElement {
  const root = h("div", { class: "shown" });
  if (isEmpty(text)) {
    fill(root, empty === "" ? null : nothing(empty));
  } else if (typeof text === "string") {
    fill(root, draw(text));
  } else {
    root.setAttribute("aria-busy", "true");
    fill(
      root,
      h("p", { class: "nothing" }, `Reading ${count(store.chars(text), "character")} \u2026`),
    );
    store.read(text).then(
      (whole) => fill(root, draw(whole)),
      (error: unknown) => fill(root, problem(error)),
    ).finally(() => root.removeAttribute("aria-busy"));
  }
  return root;
}

/** Returns a line for a text that could not be read. */
export function problem(error: unknown): HTMLElement {
  return h("p", { class: "nothing bad" }, error instanceof Error ? error.message : String(error));
}

/** Returns a button that copies a text. */
export function copyButton(store: Store, text: Text, label = "Copy"): HTMLButtonElement {
  const button = iconButton("copy", label, async () => {
    const done = await store.read(text)
      .then((whole) => navigator.clipboard.writeText(whole))
      .then(() => true, () => false);
    fill(button, named(done ? "check" : "cross"));
    setTimeout(() => fill(button, named("copy")), 1200);
  });
  return button;
}

export interface Choice<Value extends string> {
  readonly value: Value;
  readonly label: string;
}

/** Returns a row of buttons of which one is pressed. */
export function segmented<Value extends string>(
  label: string,
  choices: readonly Choice<Value>[],
  value: Value,
  chosen: (value: Value) => void,
): HTMLElement {
  const root = h("div", { class: "segmented", role: "group", "aria-label": label });
  for (const choice of choices) {
    const button = h(
      "button",
      {
        type: "button",
        "aria-pressed": String(choice.value === value),
        onclick: () => {
          for (const other of root.children) {
            other.setAttribute("aria-pressed", String(other === button));
          }
          chosen(choice.value);
        },
      },
      choice.label,
    );
    root.append(button);
  }
  return root;
}

/** A name and a value; null and false leave one out. */
export type Fact = readonly [string, Child] | null | false;

/** Returns a list of names and values. */
export function facts(pairs: readonly Fact[]): HTMLElement {
  return h(
    "dl",
    { class: "facts" },
    pairs.map((pair) =>
      pair === null || pair === false
        ? null
        : h("div", {}, h("dt", {}, pair[0]), h("dd", {}, pair[1]))
    ),
  );
}
