/**
 * Runs Pyodide in a worker without permissions, and decides nothing.
 *
 * Scrubs its own globals first, boots the interpreter from memory, and passes each request to the
 * Python driver (`guest.py`). Everything it posts is checked by `host.ts`: whatever a cell breaks
 * out into, it breaks out into this realm, which has no rights.
 *
 * @module
 */

import type { Boot, FromWorker, Shared, ToWorker } from "./link.ts";

type Part = Uint8Array<ArrayBuffer>;

/** The functions of `guest.py`'s driver, as Pyodide shows them. */
interface Driver {
  assign(name: string, kind: string, parts: Part[]): [string, string] | undefined;
  register(declared: string): void;
  run: { callPromising(cell: number, code: string): Promise<[string, ...Part[]]> };
  wake(outputChars: number): void;
}

/** What Emscripten shows of the program: its files, and what it knows of compiled modules. */
interface Program {
  FS: Files;
  LDSO: {
    loadedLibsByName: Record<string, { exports: WebAssembly.Exports; global: boolean }>;
    loadedLibsByHandle: Record<string, object>;
  };
  wasmTable: WebAssembly.Table;
  loadDynamicLibrary(name: string, flags: object, scope: object): void;
  /** Where the next compiled module's data goes; see `_patch` in `install.py`. */
  libraryPlace?: number;
}

interface Files {
  mkdirTree(path: string): void;
  writeFile(path: string, data: Uint8Array, options?: { canOwn: boolean }): void;
  lookupPath(path: string): { node: FileNode };
  filesystems: { MEMFS: object };
  mount(type: object, options: object, path: string): void;
}

interface FileNode {
  mode: number;
  node_ops: Record<string, unknown>;
  stream_ops: Record<string, unknown>;
  contents: Record<string, FileNode>;
}

/** A compiled module of a package that an image was taken with: where its data and functions lie. */
interface Library {
  name: string;
  memory: number;
  table: number;
  global: boolean;
  handles: string[];
}

interface Pyodide {
  _api: {
    config: { _loadSnapshot: unknown };
    serializeHiwireState(serializer: unknown): object;
  };
  _module: Program;
  FS: Files;
  pyimport(name: string): { driver: Driver };
  setInterruptBuffer(buffer: Uint8Array): void;
  checkInterrupt(): void;
  setStdin(options: object): void;
  setStdout(options: object): void;
  setStderr(options: object): void;
  makeMemorySnapshot(): Part;
}

/**
 * What stays of the realm: the language itself and the few things a running Pyodide uses. Everything
 * else goes, so that code which escapes into JavaScript finds nothing to work with.
 */
const KEPT_GLOBALS = names(`
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
const BOOT_GLOBALS = names(`
  URL location fetch MessageChannel addEventListener removeEventListener AbortController AbortSignal
`);

/** Where the interpreter thinks its files are. Nothing is ever read from there. */
const HOME = "https://sandbox.invalid/";

/** Pyodide wants to know which packages exist: none, for this build of it. */
const PACKAGE_INFO = {
  abi_version: "2026_0",
  arch: "wasm32",
  platform: "emscripten_5_0_3",
  version: "314.0.7",
  python: "3.14.2",
};

const scope = self as unknown as { postMessage: typeof post };
const post: (message: FromWorker, move: Transferable[]) => void = scope.postMessage.bind(scope);
const decoder = new TextDecoder();
const listen = self.addEventListener.bind(self);

const wasmArrived = Promise.withResolvers<WebAssembly.Module>();

let pyodide: Pyodide;
let driver: Driver;
let shared: Shared;
let rawOutput = "";
let complaint = "";

listen("unhandledrejection", (event) => event.preventDefault());
listen("message", (event) => {
  answer((event as MessageEvent<ToWorker>).data).catch((error) => {
    post({ op: "broken", message: complaint || describe(error) }, []);
  });
});

function names(text: string): Set<string> {
  return new Set(text.trim().split(/\s+/));
}

/** Deletes every global that is not kept, from the global object and its prototypes. */
function scrubGlobals(kept: Set<string>): void {
  let holder: object | null = globalThis;
  while (holder !== null && holder !== Object.prototype) {
    for (const name of Object.getOwnPropertyNames(holder)) {
      if (!kept.has(name) && name !== "constructor") Reflect.deleteProperty(holder, name);
    }
    holder = Object.getPrototypeOf(holder);
  }
}

/** Pyodide complains to the console. The real one writes into the pipe; this one remembers. */
function quietConsole(): Console {
  const note = (...words: unknown[]): void => {
    complaint = words.map((word) => word instanceof Error ? word.message : String(word)).join(" ");
  };
  const ignore = (): void => {};
  return Object.assign(Object.create(null), { log: ignore, info: ignore, warn: note, error: note });
}

async function answer(message: ToWorker): Promise<void> {
  switch (message.op) {
    case "boot":
      await boot(message);
      return done(message.id);
    case "wasm":
      return wasmArrived.resolve(message.module);
    case "assign": {
      const refusal = driver.assign(message.name, message.kind, message.parts);
      return refusal ? refuse(message.id, ...refusal) : done(message.id);
    }
    case "register":
      driver.register(message.declared);
      return done(message.id);
    case "run": {
      const [text, ...parts] = await driver.run.callPromising(message.cell, message.code);
      return done(message.id, text, parts);
    }
    case "checkpoint":
      return done(message.id, "{}", [pyodide.makeMemorySnapshot()]);
    case "cancel":
      return seeSignal();
  }
}

function done(id: number, text = "{}", parts: Part[] = []): void {
  post({ op: "done", id, text, parts }, parts.map((part) => part.buffer));
}

/** Answers a request whose failure is the value's fault and leaves the interpreter sound. */
function refuse(id: number, kind: string, message: string): void {
  post({ op: "refused", id, kind, message }, []);
}

/** Lets Python see a signal while its cell waits. What the handler raises has no code to stop here. */
function seeSignal(): void {
  try {
    pyodide.checkInterrupt();
  } catch {
    // The handler has cancelled what the cell waits for.
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message || error.name : "unknown error";
}

// ---- What Python can call -------------------------------------------------------------------------

/**
 * Asks the host and waits. Small arguments come as text, others as parts. The answer is its JSON text,
 * or an array of that and the raw parts that belong to it.
 *
 * It comes through a window of fixed size, so that an answer of any size takes bounded shared memory.
 */
function callHost(tool: string, inline: string, parts: Part[] = []): string | [string, ...Part[]] {
  Atomics.store(shared.turn, 0, 0);
  post({ op: "call", tool, inline, parts }, parts.map((part) => part.buffer));
  Atomics.wait(shared.turn, 0, 0);
  const whole = new Uint8Array(shared.sizes[0]!);
  for (let filled = 0;;) {
    const piece = shared.sizes[1]!;
    whole.set(shared.window.subarray(0, piece), filled);
    filled += piece;
    Atomics.store(shared.turn, 0, 0);
    Atomics.notify(shared.turn, 0);
    if (filled === whole.length) break;
    Atomics.wait(shared.turn, 0, 0);
  }
  const [text, ...rest] = unpack(whole);
  return rest.length === 0 ? decoder.decode(text) : [decoder.decode(text), ...rest];
}

/** Splits an answer: a count, that many lengths, then the parts themselves. */
function unpack(whole: Part): Part[] {
  const view = new DataView(whole.buffer);
  const count = view.getFloat64(0, true);
  let at = 8 + 8 * count;
  return Array.from({ length: count }, (_, index) => {
    const length = view.getFloat64(8 + 8 * index, true);
    at += length;
    return whole.subarray(at - length, at);
  });
}

/** Sleeps for a moment; Python sleeps in slices, so that a signal is seen between them. */
function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

function emit(text: string): void {
  post({ op: "output", text }, []);
}

/** Python has seen a signal, so that it need not be sent again. */
function heard(): void {
  Atomics.store(shared.heard, 0, 1);
}

/** Hands over what was written to file descriptors 1 and 2 behind Python's streams. */
function drainRaw(): string {
  const text = rawOutput;
  rawOutput = "";
  return text;
}

/** All that `import js` shows. Without prototypes nothing in it leads to the realm. */
function pythonGlobals(): object {
  const given = {
    callHost,
    pause,
    emit,
    drainRaw,
    heard,
    setTimeout,
    clearTimeout,
    setInterval,
    clearInterval,
  };
  const globals = Object.create(null);
  for (const [name, value] of Object.entries(given)) {
    globals[name] = Object.freeze(Object.setPrototypeOf(value.bind(null), null));
  }
  return globals;
}

// ---- Boot -----------------------------------------------------------------------------------------

async function boot(message: Boot): Promise<void> {
  shared = message.shared;
  globalThis.console = quietConsole();
  scrubGlobals(KEPT_GLOBALS.union(BOOT_GLOBALS));
  capMemory(message.memoryBytes);
  serveFromMemory(message);
  watchLibraries();
  const runtime = (await import(message.runtime)).default;
  const { loadPyodide } = await import(message.loader);
  pyodide = await loadPyodide({
    indexURL: HOME,
    createPyodideModule: async (settings: object) => {
      const program: Program = await runtime(settings);
      if (message.packages !== null) mountPackages(program.FS, message.packages);
      // Before the image is put into memory: whatever loading does to the memory, the image undoes.
      if (message.image !== null) loadLibraries(program, message.image);
      return program;
    },
    lockFileContents: { info: PACKAGE_INFO, packages: {} },
    jsglobals: pythonGlobals(),
    stdin: () => null,
    stdout: () => {},
    stderr: () => {},
    checkAPIVersion: true,
    _makeSnapshot: true,
    ...(message.image && { _loadSnapshot: message.image }),
  }) as Pyodide;
  scrubGlobals(KEPT_GLOBALS);
  letGoOfImage();
  writeSources(message.sources);
  catchRawOutput();
  pyodide.setInterruptBuffer(message.shared.interrupt);
  driver = pyodide.pyimport("sandbox_runtime.deno.guest").driver;
  driver.wake(message.outputChars);
  noteLibraries();
}

/** Emscripten grows its memory from JavaScript, so this one hook bounds it; Python gets MemoryError. */
function capMemory(bytes: number): void {
  const grow = WebAssembly.Memory.prototype.grow;
  WebAssembly.Memory.prototype.grow = function (pages: number): number {
    if (this.buffer.byteLength + pages * 65536 > bytes) throw new RangeError("memory limit");
    return grow.call(this, pages);
  };
}

/** Answers Pyodide's own requests for its files; this realm could not fetch them. */
function serveFromMemory({ stdlib, image }: Boot): void {
  WebAssembly.instantiateStreaming = async (_source, imports) => {
    const wasm = await wasmArrived.promise;
    const instance = new WebAssembly.Instance(wasm, imports);
    if (image !== null) growTo(instance, image.length);
    return { instance, module: wasm };
  };
  const file = { ok: true, arrayBuffer: () => Promise.resolve(stdlib.buffer) };
  globalThis.fetch = () => Promise.resolve(file as Response);
}

/** What Pyodide was started from is not needed again: tens of megabytes. */
function letGoOfImage(): void {
  Reflect.deleteProperty(WebAssembly, "instantiateStreaming");
  pyodide._api.config._loadSnapshot = null;
}

/** An image may be larger than the memory that a fresh interpreter starts with. */
function growTo(instance: WebAssembly.Instance, bytes: number): void {
  for (const item of Object.values(instance.exports)) {
    if (!(item instanceof WebAssembly.Memory)) continue;
    const pages = Math.ceil((bytes - item.buffer.byteLength) / 65536);
    if (pages > 0) item.grow(pages);
  }
}

function writeSources(sources: Record<string, Part>): void {
  const root = "/lib/python3.14/site-packages/sandbox_runtime/deno";
  pyodide.FS.mkdirTree(root);
  for (const [name, bytes] of Object.entries(sources)) {
    pyodide.FS.writeFile(`${root}/${name}`, bytes);
  }
}

function catchRawOutput(): void {
  const text = new TextDecoder();
  const write = (bytes: Uint8Array): number => {
    if (rawOutput.length < 65536) rawOutput += text.decode(bytes.slice(0, 65536));
    return bytes.length;
  };
  pyodide.setStdin({ stdin: () => null });
  pyodide.setStdout({ write });
  pyodide.setStderr({ write });
}

// ---- Packages -------------------------------------------------------------------------------------

/**
 * Writes the packages' files, which are views of the bundle, and takes from them whatever could
 * change them.
 */
function mountPackages(files: Files, bundle: Part): void {
  const view = new DataView(bundle.buffer, bundle.byteOffset);
  let at = 4 + view.getUint32(0, true);
  const index: [string, number][] = JSON.parse(decoder.decode(bundle.subarray(4, at)));
  files.mkdirTree("/packages");
  // A file system of its own, so that the folder itself cannot be moved away either.
  files.mount(files.filesystems.MEMFS, {}, "/packages");
  let folder = "";
  for (const [path, size] of index) {
    const parent = path.slice(0, path.lastIndexOf("/"));
    if (parent !== folder) files.mkdirTree(folder = parent);
    files.writeFile(path, bundle.subarray(at, at + size), { canOwn: true });
    at += size;
  }
  makeReadOnly(files.lookupPath("/packages").node);
}

function makeReadOnly(node: FileNode): void {
  const { getattr, lookup, readdir } = node.node_ops;
  const { llseek, read, mmap } = node.stream_ops;
  const isFolder = lookup !== undefined;
  node.mode &= ~0o222;
  node.node_ops = isFolder ? { getattr, lookup, readdir } : { getattr };
  node.stream_ops = isFolder ? { llseek } : { llseek, read, mmap };
  if (isFolder) { for (const inner of Object.values(node.contents)) makeReadOnly(inner); }
}

/** Every compiled module of a package so far, in the order of loading. */
const libraries: { instance: WebAssembly.Instance; memory: number; table: number }[] = [];

/** Remembers where Emscripten puts compiled modules; it does not remember all of it. */
function watchLibraries(): void {
  WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
    construct(target, [module, imports]) {
      const instance: WebAssembly.Instance = new target(module, imports);
      const { __memory_base: memory, __table_base: table } = imports?.env ?? {};
      if (imports?.["GOT.mem"] !== undefined && typeof memory === "number") {
        libraries.push({ instance, memory, table });
      }
      return instance;
    },
  });
}

/** Puts the compiled modules into the head of each image: its memory alone does not hold them. */
function noteLibraries(): void {
  const { _api: api, _module: program } = pyodide;
  const serialize = api.serializeHiwireState.bind(api);
  api.serializeHiwireState = (serializer) => ({
    ...serialize(serializer),
    libraries: libraries.flatMap(({ instance, memory, table }) => {
      const known = Object.entries(program.LDSO.loadedLibsByName).find(([, { exports }]) =>
        Object.entries(instance.exports).some(([symbol, item]) =>
          typeof item === "function" && exports[symbol] === item
        )
      );
      if (known === undefined) return []; // its loading has failed
      const handles = Object.entries(program.LDSO.loadedLibsByHandle)
        .filter(([, other]) => other === known[1]).map(([handle]) => handle);
      return { name: known[0], memory, table, global: known[1].global, handles };
    }),
    table: program.wasmTable.length,
  });
}

/** Loads the compiled modules that an image was taken with, each to the place where it was. */
function loadLibraries(program: Program, image: Part): void {
  const [, , length] = new Uint32Array(image.buffer, image.byteOffset, 3);
  const head = JSON.parse(decoder.decode(image.subarray(48, 48 + length!)));
  const saved: Library[] = head.libraries ?? [];
  for (const { name, memory, table, global, handles } of saved) {
    if (table > 0) growTable(program.wasmTable, table);
    program.libraryPlace = memory;
    program.loadDynamicLibrary(name, { global, nodelete: true }, {});
    for (const handle of handles) {
      program.LDSO.loadedLibsByHandle[handle] = program.LDSO.loadedLibsByName[name]!;
    }
  }
  delete program.libraryPlace;
  if (saved.length > 0) growTable(program.wasmTable, head.table);
}

/** The functions of an image have numbers, so each module's must begin at the same one again. */
function growTable(table: WebAssembly.Table, length: number): void {
  if (table.length > length) throw new Error("the image's modules do not fit into the table");
  table.grow(length - table.length);
}
