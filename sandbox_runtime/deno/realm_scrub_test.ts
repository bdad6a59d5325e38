import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import { lockIntrinsics, narrowCrypto, stopWorkElsewhere } from "./realm_scrub.ts";

// This file has a realm of its own, so these permanent changes affect no other test.
narrowCrypto();
stopWorkElsewhere();
lockIntrinsics();

Deno.test("lockIntrinsics() hides the callers of a function from it", () => {
  let shown: unknown = null;
  const prepare = (_error: unknown, sites: unknown) => shown = sites;
  for (const kind of [Error, RangeError, Error.prototype, Function.prototype, Object.prototype]) {
    assertEquals(Reflect.set(kind, "prepareStackTrace", prepare), false);
    assertEquals(Reflect.defineProperty(kind, "prepareStackTrace", { value: prepare }), false);
  }
  class Own extends Error {
    static override prepareStackTrace = prepare;
  }
  const holder: { stack?: string } = {};
  Error.captureStackTrace(holder);

  assertEquals(typeof new Own("x").stack, "string");
  assertEquals(typeof holder.stack, "string");
  assertEquals(shown, null);
});

Deno.test("lockIntrinsics() freezes the language's own objects", () => {
  const iterator = Object.getPrototypeOf([].values());
  const asyncFunction = Object.getPrototypeOf(async () => {});
  const holders = [
    Object.prototype,
    Function.prototype,
    Array.prototype,
    Promise.prototype,
    Map.prototype,
    Uint8Array.prototype,
    Object.getPrototypeOf(Uint8Array).prototype,
    RegExp.prototype,
    String.prototype,
    iterator,
    Object.getPrototypeOf(iterator),
    asyncFunction,
    Promise,
    Array,
    Object,
    JSON,
    Math,
    Reflect,
    WebAssembly.Memory.prototype,
  ];
  for (const holder of holders) {
    assertEquals(Object.isExtensible(holder), false);
    for (const key of Reflect.ownKeys(holder)) {
      const { value, writable, configurable } = Object.getOwnPropertyDescriptor(holder, key)!;
      assertEquals(configurable, false, String(key));
      if (typeof value === "function") assertEquals(writable, false, String(key));
    }
  }
  assertThrows(() => Object.setPrototypeOf(Array.prototype, {}), TypeError);
});

Deno.test("lockIntrinsics() lets objects override names and methods", () => {
  class Own extends Error {
    constructor() {
      super("first");
      this.name = "Own";
      this.message = "second";
      this.toString = () => "third";
    }
  }
  const own = new Own();

  assertEquals([own.name, own.message, own.toString()], ["Own", "second", "third"]);
  assertEquals(new Error("x").toString(), "Error: x");
  Error.stackTraceLimit = 5; // Pyodide does
});

Deno.test("narrowCrypto() keeps random bytes, and nothing that works in other threads", () => {
  assertEquals(crypto.getRandomValues(new Uint8Array(4)).length, 4);
  assertEquals(Reflect.ownKeys(crypto), ["getRandomValues"]);
  assertEquals(Object.getPrototypeOf(crypto), null);
  assertEquals(Object.getPrototypeOf(crypto.getRandomValues), null);
});

Deno.test("stopWorkElsewhere() deletes functions that call back at any time", () => {
  for (const name of ["compile", "instantiate", "compileStreaming", "instantiateStreaming"]) {
    assertEquals(name in WebAssembly, false);
  }
  assertEquals("waitAsync" in Atomics, false);
});
