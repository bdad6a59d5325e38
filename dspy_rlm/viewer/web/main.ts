/**
 * The viewer's entry point: reads the document of the page, and shows it in place of the outline.
 *
 * The outline is after the script in the page, and hidden before it is parsed: that of a long run takes seconds to lay out.
 */

import { Store } from "./document/store.ts";
import { App } from "./shell/app.ts";
import { openKeys } from "./shell/keys.ts";
import { problem } from "./ui/parts.ts";

const SCRIPTED = "scripted";

async function start(root: HTMLElement): Promise<void> {
  document.documentElement.classList.add(SCRIPTED);
  try {
    const app = new App(await Store.open(), root);
    app.start();
    openKeys(app);
    await whole();
    outline()?.remove();
  } catch (error) {
    // The outline has the run in words.
    root.hidden = true;
    document.documentElement.classList.remove(SCRIPTED);
    await whole();
    outline()?.prepend(problem(error));
  }
}

function outline(): HTMLElement | null {
  return document.getElementById("outline");
}

/** Waits until the page is parsed to its end. */
function whole(): Promise<void> {
  return new Promise((resolve) => {
    if (document.readyState === "loading") {
      document.addEventListener("DOMContentLoaded", () => resolve(), { once: true });
    } else {
      resolve();
    }
  });
}

const root = document.getElementById("app");
if (root !== null) {
  void start(root);
}
