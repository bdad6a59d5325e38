import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import { addAgain, type Added, addedSince, type Tabled } from "./function_table.ts";

/** A module that exports three functions: `(module (func (export "a")) (func (export "b")) (func (export "c")))`. */
const MODULE = new WebAssembly.Module(Uint8Array.fromBase64(
  "AGFzbQEAAAABBAFgAAADBAMAAAAHDQMBYQAAAWIAAQFjAAIKCgMCAAsCAAsCAAs=",
));

/** A program whose table begins with two places. */
function program(): Tabled & { places: (name: string) => number } {
  const { exports } = new WebAssembly.Instance(MODULE);
  const wasmTable = new WebAssembly.Table({ element: "anyfunc", initial: 2 });
  const addFunction = (item: CallableFunction): number => {
    const place = wasmTable.grow(1);
    wasmTable.set(place, item);
    return place;
  };
  const places = (name: string): number => addFunction(exports[name] as CallableFunction);
  return { wasmTable, addFunction, places, LDSO: { loadedLibsByName: { __main__: { exports } } } };
}

/** The names of the functions in a table, "" for an empty place. */
function namesIn({ wasmTable: table, LDSO }: Tabled): string[] {
  const exports = Object.entries(LDSO.loadedLibsByName.__main__!.exports);
  return Array.from({ length: table.length }, (_, place) => {
    const item = table.get(place);
    return exports.find(([, other]) => other === item)?.[0] ?? "";
  });
}

Deno.test("addedSince() finds the functions that were looked up", () => {
  const first = program();
  assertEquals(addedSince(first, 2), []);
  first.places("b");
  first.wasmTable.grow(1); // a place of a package
  first.places("a");

  assertEquals(addedSince(first, 2), [[2, "b"], [4, "a"]]);
});

Deno.test("addAgain() puts each function at its old place, up to that of a package", () => {
  const added: Added[] = [[2, "b"], [4, "a"], [5, "c"]];
  const second = program();

  addAgain(second, added, 3);
  assertEquals(namesIn(second), ["", "", "b"]);
  second.wasmTable.grow(1);
  addAgain(second, added, Infinity);
  assertEquals(namesIn(second), ["", "", "b", "", "a", "c"]);
  addAgain(second, added, Infinity);
  assertEquals(second.wasmTable.length, 6);
});

Deno.test("addAgain() refuses an image of functions that there are not", () => {
  assertThrows(() => addAgain(program(), [[2, "none"]], Infinity));
});
