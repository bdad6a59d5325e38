/**
 * Elements without `innerHTML`: attributes and texts are set as data, so that nothing a model wrote becomes markup.
 */

export type Child = Node | string | number | null | undefined | false | readonly Child[];

/** Attributes by name; `class` and `on...` listeners included. `false`, `null` and `undefined` leave one out. */
export interface Attributes {
  readonly [name: string]:
    | string
    | number
    | boolean
    | null
    | undefined
    | ((event: never) => void);
}

/** Returns a new element. A function under `onclick` and the like becomes a listener, never an attribute. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  setAttributes(element, attributes);
  append(element, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Returns a new SVG element. */
export function svg<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[Name] {
  const element = document.createElementNS(SVG, name);
  setAttributes(element, attributes);
  append(element, children);
  return element;
}

function setAttributes(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      continue;
    }
    if (typeof value === "function") {
      element.addEventListener(name.replace(/^on/, ""), value as EventListener);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
}

/** Appends children; arrays are flattened, and absent ones left out. */
export function append(parent: Node, children: readonly Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) {
      continue;
    }
    if (isList(child)) {
      append(parent, child);
    } else if (child instanceof Node) {
      parent.appendChild(child);
    } else {
      parent.appendChild(document.createTextNode(String(child)));
    }
  }
}

function isList(child: Child): child is readonly Child[] {
  return Array.isArray(child);
}

/** Replaces all children of an element. */
export function fill(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** Sets CSS properties through the CSSOM, which a Content-Security-Policy without `unsafe-inline` allows. */
export function style<Styled extends HTMLElement | SVGElement>(
  element: Styled,
  properties: Readonly<Record<string, string>>,
): Styled {
  for (const [name, value] of Object.entries(properties)) {
    element.style.setProperty(name, value);
  }
  return element;
}

/** Returns an icon: a path in a box of 16 by 16, hidden from screen readers. */
export function icon(path: string): SVGSVGElement {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: path }),
  );
}
