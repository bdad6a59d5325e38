/**
 * The keys of the page; `help.ts` lists them. Keys with Ctrl, Alt or Meta are left to the browser, except Ctrl+K.
 */

import type { App } from "./app.ts";

/** Listens to the keys until the page is left. */
export function openKeys(app: App): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) {
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      app.openSearch();
      return;
    }
    const writes = event.target instanceof Element &&
      event.target.closest("input, textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || writes || openDialog()) {
      return;
    }
    if (press(app, event.key)) {
      event.preventDefault();
    }
  });
}

function openDialog(): boolean {
  return document.querySelector("dialog[open]") !== null;
}

/** Returns true if the key has an action. */
function press(app: App, key: string): boolean {
  switch (key) {
    case "j":
      app.move(1);
      return true;
    case "k":
      app.move(-1);
      return true;
    case "n":
      app.moveToFailed(1);
      return true;
    case "p":
      app.moveToFailed(-1);
      return true;
    case "u":
      app.up();
      return true;
    case "/":
      app.openSearch();
      return true;
    case "?":
      app.openHelp();
      return true;
    case "c":
      app.compare();
      return true;
    case "t":
      app.switchTheme();
      return true;
    case "Escape":
      return app.closeSide() || closeDetail();
    default:
      if (/^[1-9]$/.test(key)) {
        app.openTab(Number(key));
        return true;
      }
      return false;
  }
}

function closeDetail(): boolean {
  const close = document.querySelector<HTMLElement>(".detail-head .icon-button");
  close?.click();
  return close !== null;
}
