/**
 * The keyboard's focus in a part of the page that is drawn again: it stays where it was.
 */

/** Notes where the focus is; the function that it returns puts it there again. */
export function keepFocus(root: Element): () => void {
  const { activeElement } = document;
  if (activeElement === null || activeElement === root || !root.contains(activeElement)) {
    return () => {};
  }
  const path: number[] = [];
  for (let element: Element = activeElement; element !== root;) {
    const parent: Element | null = element.parentElement;
    if (parent === null) {
      return () => {};
    }
    path.unshift(Array.prototype.indexOf.call(parent.children, element));
    element = parent;
  }
  return () => {
    let element: Element | undefined = root;
    for (const index of path) {
      element = element?.children[index];
    }
    if (element instanceof HTMLElement && element.tagName === activeElement.tagName) {
      element.focus({ preventScroll: true });
    }
  };
}
