/**
 * The viewer's entry point: reads the document of the page, and shows it in place of the outline.
 */

import { Store } from "./document/store.ts";
import { App } from "./shell/app.ts";
import { openKeys } from "./shell/keys.ts";
import { problem } from "./ui/parts.ts";

async function start(): Promise<void> {
  const root = document.getElementById("app");
  const outline = document.getElementById("outline");
  if (root === null) {
    return;
  }
  try {
    const app = new App(await Store.open(), root);
    app.start();
    openKeys(app);
    outline?.remove();
  } catch (error) {
    // The outline stays: it has the run in words.
    root.hidden = true;
    outline?.prepend(problem(error));
  }
}

void start();
