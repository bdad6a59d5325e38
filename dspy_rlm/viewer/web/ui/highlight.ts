/**
 * Marks a word in the page without changing the page, through the CSS Custom Highlight API where the browser has it.
 */

/** The most elements that are searched. */
const MOST_NODES = 20_000;

/** The longest wait for texts that are still loading. */
const TRIES = 12;
const EVERY_MILLISECONDS = 120;

/** Marks all places of a pattern, and scrolls to the first. */
export function highlight(root: Element, pattern: RegExp, tries = TRIES): void {
  const registry = (CSS as { highlights?: HighlightRegistry }).highlights;
  registry?.delete("found");
  const ranges = rangesOf(root, pattern);
  const first = ranges[0];
  if (first === undefined) {
    if (tries > 0) {
      setTimeout(() => root.isConnected && highlight(root, pattern, tries - 1), EVERY_MILLISECONDS);
    }
    return;
  }
  registry?.set("found", new Highlight(...ranges));
  first.startContainer.parentElement?.scrollIntoView({ block: "center" });
}

/** Removes the marks. */
export function clearHighlight(): void {
  (CSS as { highlights?: HighlightRegistry }).highlights?.delete("found");
}

function rangesOf(root: Element, pattern: RegExp): Range[] {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const ranges: Range[] = [];
  for (let seen = 0; seen < MOST_NODES; seen++) {
    const node = walker.nextNode();
    if (node === null) {
      break;
    }
    pattern.lastIndex = 0;
    const text = node.textContent ?? "";
    for (
      let match = pattern.exec(text);
      match !== null && match[0] !== "";
      match = pattern.exec(text)
    ) {
      const range = new Range();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      ranges.push(range);
    }
  }
  return ranges;
}
