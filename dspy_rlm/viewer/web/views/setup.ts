/**
 * The setup of a run: its signature, its instructions, the settings and the versions.
 */

import type { Context } from "../shell/context.ts";
import { visible } from "../text/lines.ts";
import { moment } from "../text/numbers.ts";
import { textBlock } from "../text/plain.ts";
import { plain } from "../text/visible.ts";
import { h } from "../ui/dom.ts";
import { facts, panel, shown } from "../ui/parts.ts";

/** Returns the view. */
export function setupView(context: Context): HTMLElement {
  const { run, journal, store } = context;
  return h(
    "div",
    { class: "view setup-view" },
    panel(
      "Signature",
      {},
      shown(store, run.signature, (text) => textBlock(text, { className: "json" })),
    ),
    panel(
      "Instructions",
      {},
      shown(store, run.instructions, (text) => textBlock(text, { className: "prose" }), "None."),
    ),
    panel(
      "Run",
      {},
      facts([
        ["Id", h("code", {}, visible(plain(run.id, 80)))],
        ["Started", moment(journal.started_at + run.started)],
        ["Status", run.status],
        run.stopped_by !== "" && ["Ended by", visible(plain(run.stopped_by, 80))],
        journal.path !== "" && ["Journal", visible(plain(journal.path, 300))],
        ["Page written", moment(store.document.written_at)],
        ["By", visible(plain(store.document.written_by, 80))],
        store.document.redacted && ["Redacted", "texts were removed"],
      ]),
    ),
    panel(
      "Settings",
      {},
      h(
        "dl",
        { class: "settings" },
        journal.settings.map(([name, value]) =>
          h(
            "div",
            {},
            h("dt", {}, visible(plain(name, 80))),
            h("dd", {}, shown(store, value, (text) => textBlock(text), "none")),
          )
        ),
      ),
    ),
  );
}
