/**
 * What is taken from the worker's realm before anything of a cell runs in it: all globals but a few, and
 * memory without bounds.
 *
 * @module
 */

/**
 * What stays of the realm: the language itself and the few things a running Pyodide uses. Everything
 * else goes, so that code which escapes into JavaScript finds nothing to work with.
 */
export const KEPT_GLOBALS = names(`
  Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Date
  Promise RegExp Error AggregateError EvalError RangeError ReferenceError SyntaxError TypeError
  URIError SuppressedError globalThis JSON Math Intl ArrayBuffer Atomics Uint8Array Int8Array
  Uint16Array Int16Array Uint32Array Int32Array Float16Array Float32Array Float64Array
  Uint8ClampedArray BigUint64Array BigInt64Array DataView Map BigInt Set WeakMap WeakSet WeakRef Proxy
  Reflect FinalizationRegistry Iterator SharedArrayBuffer isFinite isNaN encodeURI encodeURIComponent
  decodeURI decodeURIComponent WebAssembly self WorkerGlobalScope TextDecoder TextEncoder crypto
  performance setTimeout clearTimeout setInterval clearInterval queueMicrotask dispatchEvent console
`);

/** What Pyodide needs while it starts, and no longer. */
export const BOOT_GLOBALS = names(`
  URL location fetch MessageChannel addEventListener removeEventListener AbortController AbortSignal
`);

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
