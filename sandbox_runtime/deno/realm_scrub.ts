/**
 * What is taken from the worker's realm before anything of a cell runs in it: all globals but a few,
 * memory without bounds, work that goes on in other threads, and every way to change what the language
 * itself consists of.
 *
 * @module
 */

/**
 * What stays of the realm: the language itself and the few things a running Pyodide uses. Everything
 * else goes, so that code which escapes into JavaScript finds nothing to work with. Deno itself takes
 * `queueMicrotask` and `dispatchEvent` from here whenever a message comes.
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

/** What Pyodide needs while it starts, and no longer. */
export const BOOT_GLOBALS = names(`
  URL location fetch addEventListener removeEventListener AbortController AbortSignal
  FinalizationRegistry
`);

/** What works in threads of its own, where no clock of a cell sees it, or calls back at its own time. */
const WORK_ELSEWHERE: [object, string[]][] = [
  [WebAssembly, ["compile", "instantiate", "compileStreaming", "instantiateStreaming"]],
  [Atomics, ["waitAsync"]],
];

/** What errors and plain objects commonly get of their own, by assignment: that has to go on. */
const OFTEN_REPLACED = ["name", "message", "stack", "constructor", "toString", "valueOf"];
const PARENTS: object[] = [Object.prototype, Function.prototype, Error.prototype];

/** The only property of the language's own objects that Pyodide sets. It is a number. */
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

/** Leaves random bytes of `crypto`: its other functions work in threads of Deno's. */
export function narrowCrypto(): void {
  const real = globalThis.crypto;
  const draw = Object.setPrototypeOf(real.getRandomValues.bind(real), null);
  const value = Object.freeze(Object.assign(Object.create(null), { getRandomValues: draw }));
  Object.defineProperty(globalThis, "crypto", { value, writable: false, configurable: false });
}

/** Deletes what goes on after the cell that began it. Needed to start, so it is the last to go. */
export function stopWorkElsewhere(): void {
  for (const [holder, methods] of WORK_ELSEWHERE) {
    for (const name of methods) Reflect.deleteProperty(holder, name);
  }
}

/**
 * Makes the language's own objects unchangeable: functions that a cell puts there would be called by our
 * code and Pyodide's in later cells. `Error.prepareStackTrace`, which shows the objects of all callers,
 * can then not be set.
 */
export function lockIntrinsics(): void {
  Object.defineProperty(Error, "prepareStackTrace", { value: undefined });
  const seen = new Set<unknown>([globalThis, Object.getPrototypeOf(globalThis)]);
  const waiting: unknown[] = [...intrinsics()];
  while (waiting.length > 0) {
    const thing = waiting.pop();
    if ((typeof thing !== "object" && typeof thing !== "function") || thing === null) continue;
    if (seen.has(thing)) continue;
    seen.add(thing);
    waiting.push(Object.getPrototypeOf(thing));
    for (const { value, get, set } of Object.values(Object.getOwnPropertyDescriptors(thing))) {
      waiting.push(value, get, set);
    }
    for (const symbol of Object.getOwnPropertySymbols(thing)) {
      waiting.push(Object.getOwnPropertyDescriptor(thing, symbol)!.value);
    }
    lock(thing);
  }
}

/**
 * Makes one object unchangeable. By `freeze` as a whole, since V8 goes on to take it for the original:
 * properties redefined one by one make every promise and array slower.
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

/** The objects to begin with: what globals and literals lead to, among them what has no name. */
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

/** Globals that are not the language's, or are the realm itself. */
const HOLDERS = names(
  "globalThis self undefined Infinity NaN console WorkerGlobalScope dispatchEvent",
);

/** A property that cannot be set, but inheritors may set one of their own in its place. */
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

/** Emscripten grows its memory from JavaScript, so this one hook bounds it; Python gets MemoryError. */
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
