/**
 * The functions that Pyodide's table has received since its start: those that C code has asked for by name, as `ctypes`
 * does. Python's memory refers to them by their place in the table, so an image has to restore each at its old one.
 *
 * @module
 */

/** The parts of Emscripten that this uses. */
export interface Tabled {
  LDSO: { loadedLibsByName: Record<string, { exports: WebAssembly.Exports }> };
  wasmTable: WebAssembly.Table;
  /** Adds a function at the table's end, if it has no place yet, and returns its place. */
  addFunction(item: CallableFunction): number;
}

/** A function's place, and its name among the exports of Pyodide itself. */
export type Added = [place: number, name: string];

/** Emscripten's name for Pyodide itself. */
const MAIN = "__main__";

/** Returns Pyodide's own functions from a place on. Others are those of packages and of JavaScript. */
export function addedSince(program: Tabled, start: number): Added[] {
  const { wasmTable: table } = program;
  if (table.length === start) return [];
  const names = new Map<unknown, string>();
  for (const [name, item] of Object.entries(exportsOf(program))) names.set(item, name);
  const added: Added[] = [];
  for (let place = start; place < table.length; place++) {
    const name = names.get(table.get(place));
    if (name !== undefined) added.push([place, name]);
  }
  return added;
}

/** Restores functions of an image that lie below a place. Those that are there already stay. */
export function addAgain(program: Tabled, added: Added[], below: number): void {
  for (const [place, name] of added) {
    if (place < program.wasmTable.length || place >= below) continue;
    growTable(program.wasmTable, place);
    const item = exportsOf(program)[name];
    if (typeof item !== "function" || program.addFunction(item) !== place) {
      throw new Error(`the function ${name} is not where it was in the image`);
    }
  }
}

/** Grows the table to a length. An image refers to functions by index, so each module's must start at its old one. */
export function growTable(table: WebAssembly.Table, length: number): void {
  if (table.length > length) {
    throw new Error("the table of functions is already longer than it was in the image");
  }
  table.grow(length - table.length);
}

function exportsOf(program: Tabled): WebAssembly.Exports {
  return program.LDSO.loadedLibsByName[MAIN]!.exports;
}
