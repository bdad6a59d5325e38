/**
 * Reduces the worker's realm before any code of a cell runs in it: removes all globals but a few, bounds the memory,
 * removes work in other threads, and freezes the objects of the language itself.
 *
 * @module
 */

/**
 * The globals that stay: the language itself and the few that a running Pyodide uses. All others are removed, so
 * that code which escapes into JavaScript finds nothing to work with. Deno itself reads `queueMicrotask` and
 * `dispatchEvent` from the global object at every message.
 */
export const KEPT_GLOBALS = names(`
  Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Date
  Promise RegExp Error AggregateError EvalError RangeError ReferenceError SyntaxError TypeError
  URIError SuppressedError globalThis JSON Math Intl ArrayBuffer Atomics Uint8Array Int8Array
  Uint16Array Int16Array Uint32Array Int32Array Float16Array Float32Array Float64Array
  Uint8ClampedArray BigUint64Array BigInt64Array DataView Map BigInt Set WeakMap WeakSet WeakRef Proxy
  Reflect Iterator isFinite isNaN encodeURI encodeURIComponent
  decodeURI decodeURIComponent WebAssembly self WorkerGlobalScope TextDecoder TextEncoder crypto
  performance setTimeout clearTimeout setInterval clearInterval queueMicrotask dispatchEvent console
`);

/** The globals that Pyodide needs only while it starts. */
export const BOOT_GLOBALS = names(`
  URL location fetch addEventListener removeEventListener AbortController AbortSignal
  FinalizationRegistry
`);

/** Functions that work in other threads, which no cell's clock measures, or that call back at any time. */
const WORK_ELSEWHERE: [object, string[]][] = [
  [WebAssembly, ["compile", "instantiate", "compileStreaming", "instantiateStreaming"]],
  [Atomics, ["waitAsync"]],
];

/** Properties that code commonly overrides on errors and plain objects by assignment, which must keep working. */
const OFTEN_REPLACED = ["name", "message", "stack", "constructor", "toString", "valueOf"];
const PARENTS: object[] = [Object.prototype, Function.prototype, Error.prototype];

/** The only property of the language's own objects that Pyodide sets: a number. */
const STAYS_WRITABLE = "stackTraceLimit";

/** Deletes every global that is not kept, from the global object and its prototypes. */
export function scrubGlobals(kept: Set<string>): void {
  let holder: object | null = globalThis;
  while (holder !== null && holder !== Object.prototype) {
    for (const name of Object.getOwnPropertyNames(holder)) {
      if (!kept.has(name) && name !== "constructor") Reflect.deleteProperty(holder, name);
    }
    holder = Object.getPrototypeOf(holder);
  }
}

/** Reduces `crypto` to random bytes: its other functions work in Deno's threads. */
export function narrowCrypto(): void {
  const real = globalThis.crypto;
  const draw = Object.setPrototypeOf(real.getRandomValues.bind(real), null);
  const value = Object.freeze(Object.assign(Object.create(null), { getRandomValues: draw }));
  Object.defineProperty(globalThis, "crypto", { value, writable: false, configurable: false });
}

/** Deletes functions whose work can outlive its cell. The start needs them, so they are deleted last. */
export function stopWorkElsewhere(): void {
  for (const [holder, methods] of WORK_ELSEWHERE) {
    for (const name of methods) Reflect.deleteProperty(holder, name);
  }
}

/**
 * Freezes the language's own objects: in later cells, our code and Pyodide's would call functions that a cell stored
 * there. Also prevents setting `Error.prepareStackTrace`, which receives the objects of all callers.
 */
export function lockIntrinsics(): void {
  Object.defineProperty(Error, "prepareStackTrace", { value: undefined });
  const seen = new Set<unknown>([globalThis, Object.getPrototypeOf(globalThis)]);
  const queue: unknown[] = [...intrinsics()];
  while (queue.length > 0) {
    const thing = queue.pop();
    if ((typeof thing !== "object" && typeof thing !== "function") || thing === null) continue;
    if (seen.has(thing)) continue;
    seen.add(thing);
    queue.push(Object.getPrototypeOf(thing));
    for (const { value, get, set } of Object.values(Object.getOwnPropertyDescriptors(thing))) {
      queue.push(value, get, set);
    }
    for (const symbol of Object.getOwnPropertySymbols(thing)) {
      queue.push(Object.getOwnPropertyDescriptor(thing, symbol)!.value);
    }
    lock(thing);
  }
}

/**
 * Freezes one object. `Object.freeze` keeps V8's fast paths for the original objects: redefining properties one by
 * one makes every promise and array slower.
 */
function lock(thing: object): void {
  if (thing === Error) {
    for (const key of Reflect.ownKeys(thing).filter((key) => key !== STAYS_WRITABLE)) {
      const { writable } = Object.getOwnPropertyDescriptor(thing, key)!;
      const change = writable ? { writable: false, configurable: false } : { configurable: false };
      Object.defineProperty(thing, key, change);
    }
    Object.preventExtensions(thing);
    return;
  }
  if (PARENTS.includes(thing) || thing instanceof Error) {
    for (const name of OFTEN_REPLACED) letInheritorsReplace(thing, name);
  }
  Object.freeze(thing);
}

/** Yields the objects to start from: the globals, and the prototypes of literals that have no global name. */
function* intrinsics(): Iterable<unknown> {
  const reachable = [...KEPT_GLOBALS].filter((name) => !HOLDERS.has(name));
  for (const name of reachable) yield (globalThis as Record<string, unknown>)[name];
  const literals = [
    [].values(),
    "".matchAll(/./g),
    ""[Symbol.iterator](),
    new Map().values(),
    new Set().values(),
    Iterator.from({ next: () => ({ done: true, value: 0 }) }),
    [].values().map(String),
    function* () {},
    async function* () {},
    async () => {},
  ];
  for (const literal of literals) yield Object.getPrototypeOf(literal);
}

/** Globals that are not part of the language, or that are the realm itself. */
const HOLDERS = names(
  "globalThis self undefined Infinity NaN console WorkerGlobalScope dispatchEvent",
);

/** Makes a property read-only, but lets inheriting objects override it by assignment. */
function letInheritorsReplace(holder: object, key: string): void {
  const property = Object.getOwnPropertyDescriptor(holder, key);
  if (property === undefined || !("value" in property)) return;
  const { value } = property;
  Object.defineProperty(holder, key, {
    configurable: false,
    get: () => value,
    set(this: unknown, own: unknown) {
      if (this === holder || (typeof this !== "object" && typeof this !== "function")) {
        throw new TypeError(`${key} cannot be replaced here`);
      }
      Object.defineProperty(this as object, key, {
        value: own,
        writable: true,
        enumerable: true,
        configurable: true,
      });
    },
  });
}

/** Bounds the memory. Emscripten grows it from JavaScript, so this one hook suffices; Python raises MemoryError. */
export function capMemory(bytes: number): void {
  const grow = WebAssembly.Memory.prototype.grow;
  WebAssembly.Memory.prototype.grow = function (pages: number): number {
    if (this.buffer.byteLength + pages * 65536 > bytes) throw new RangeError("memory limit");
    return grow.call(this, pages);
  };
}

function names(text: string): Set<string> {
  return new Set(text.trim().split(/\s+/));
}
