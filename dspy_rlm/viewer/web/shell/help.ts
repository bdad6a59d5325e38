/**
 * The keys, and the dialog that lists them.
 */

import { Dialog } from "../ui/dialog.ts";
import { h } from "../ui/dom.ts";

const KEYS: readonly (readonly [readonly string[], string])[] = [
  [["j", "k"], "next and previous row of the tree"],
  [["n", "p"], "next and previous step that failed"],
  [["1", "\u2026", "9"], "a tab of the run or the step"],
  [["u"], "up: from a step to its run, from a sub-run to the step above"],
  [["/"], "search everything"],
  [["\u2191", "\u2193", "\u2190", "\u2192"], "move in the tree and in the grid, fold and unfold"],
  [["+", "-", "<", ">", "0"], "zoom and move the timeline that has the focus"],
  [["Enter"], "open the row that has the focus"],
  [["Esc"], "close what is open"],
  [["c"], "compare the two runs"],
  [["t"], "light or dark"],
  [["?"], "this help"],
];

/** Returns the dialog. */
export function helpDialog(): Dialog {
  const dialog = new Dialog("Keyboard", "help-dialog");
  dialog.fill(
    h(
      "dl",
      { class: "keys" },
      KEYS.map(([keys, text]) =>
        h(
          "div",
          {},
          h("dt", {}, keys.map((key) => key === "\u2026" ? ` ${key} ` : h("kbd", {}, key))),
          h("dd", {}, text),
        )
      ),
    ),
    h(
      "p",
      { class: "quiet" },
      "Every address after # is a permalink: copy it from the address bar.",
    ),
  );
  return dialog;
}
