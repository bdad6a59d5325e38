/**
 * Light and dark: as the system has it, until the switch says otherwise. The choice is kept where the browser allows it.
 *
 * The root element always says which one the page has, so that the style sheet lists the colours of each only once.
 */

export type Theme = "light" | "dark";

const KEY = "dspy-rlm.theme";

const system = matchMedia("(prefers-color-scheme: dark)");

/** Shows the page in its theme, and calls `changed` when the system's theme changes it. Prints are light. */
export function openTheme(changed: () => void): void {
  show(kept() ?? systemTheme());
  system.addEventListener("change", () => {
    show(kept() ?? systemTheme());
    changed();
  });
  let before: Theme | null = null;
  addEventListener("beforeprint", () => {
    before ??= currentTheme();
    show("light");
  });
  addEventListener("afterprint", () => {
    show(before ?? currentTheme());
    before = null;
  });
}

/** Switches between light and dark. */
export function switchTheme(): void {
  const theme = currentTheme() === "dark" ? "light" : "dark";
  show(theme);
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // A page from a file may have no storage.
  }
}

function currentTheme(): Theme {
  return document.documentElement.dataset["theme"] === "dark" ? "dark" : "light";
}

function systemTheme(): Theme {
  return system.matches ? "dark" : "light";
}

function kept(): Theme | null {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === "light" || theme === "dark" ? theme : null;
  } catch {
    return null;
  }
}

function show(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
}
