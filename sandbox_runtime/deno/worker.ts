/**
 * Runs Pyodide in a worker without permissions, and decides nothing.
 *
 * Scrubs its own globals first, boots the interpreter from memory, and passes each request to the
 * Python driver (`entry.py`). Everything it posts is checked by `host.ts`: whatever a cell breaks
 * out into, it breaks out into this realm, which has no rights.
 *
 * @module
 */

import vm from "node:vm";
import { type Baseline, baselineOf, type Disk, restoreDisk, saveDisk } from "./disk.ts";
import {
  growTo,
  imageBytes,
  type Imaged,
  imageHarness,
  imageState,
  putPages,
  saveImage,
} from "./image.ts";
import { Expected, Integrity, type Words } from "./integrity.ts";
import {
  loadLibraries,
  mountPackages,
  noteLibraries,
  type Program,
  watchLibraries,
} from "./packages.ts";
import { repeatEverything } from "./reproducible.ts";
import { Rooms, type Roomy } from "./value_buffers.ts";
import {
  BOOT_GLOBALS,
  capMemory,
  KEPT_GLOBALS,
  lockIntrinsics,
  narrowCrypto,
  scrubGlobals,
  stopWorkElsewhere,
} from "./realm_scrub.ts";
import { acknowledge } from "./signals.ts";
import { DeferredFinalizers, Timers } from "./timers.ts";
import { takeAnswer } from "./shared_answer.ts";
import type { Part } from "./frames.ts";
import type { Boot, FromWorker, Shared, ToWorker } from "./worker_messages.ts";
import type { CallMode } from "./protocol.ts";

/** The functions of `entry.py`'s driver, as Pyodide shows them. */
interface Driver {
  readonly rooms: { destroy(): void };
  assign(name: string, kind: string, parts: Part[]): [string, string] | undefined;
  drop_rooms(): void;
  register(declared: string): Ground;
  prepare: { (cell: number, code: string): void };
  run: { callPromising(cell: number, code: string): Promise<string | [string, ...Part[]]> };
  answered(ticket: number, text: string, parts: Part[]): void;
  ground(): Ground;
  wake(outputChars: number, valueBytes: number, seed: string): Ground;
  rest(): void;
}

/** A part of the harness: how it is put back, where its words are now, and those that this stands on. */
type Ground = [putBack: () => void, locate: () => Located, core: Part];

/** Bytes of Python's, as Pyodide shows them. */
interface Located {
  toJs(): Part;
  destroy(): void;
}

/** The same as it is kept here, where no cell can replace it. */
interface Kept {
  putBack: () => void;
  locate: () => Part;
  integrity: Integrity;
}

interface Pyodide extends Imaged {
  _api: Imaged["_api"] & { serializeHiwireState(serializer: unknown): object };
  _module: Imaged["_module"] & Program & Roomy & Words;
  FS: Disk & { mkdirTree(path: string): void };
  pyimport(name: string): { driver: Driver; quieten: () => boolean };
  setInterruptBuffer(buffer: Uint8Array): void;
  checkInterrupt(): void;
  setStdin(options: object): void;
  setStdout(options: object): void;
  setStderr(options: object): void;
}

/** Pyodide's two modules, as `install.py` joins them into one script. */
interface Runtime {
  loadPyodide(options: object): Promise<Pyodide>;
  createPyodideModule(settings: object): Promise<Pyodide["_module"]>;
}

/** Each time something is left that a finalizer has made: more than a few are no accident. */
const READY_ATTEMPTS = 10;

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
/** Nobody ever writes here: to wait for it is to sleep. */
const nothing = new Int32Array(new SharedArrayBuffer(4));

const wasmArrived = Promise.withResolvers<WebAssembly.Module>();
const files = new Map<string, PromiseWithResolvers<Part>>();

let script: vm.Script;
let pyodide: Pyodide;
let driver: Driver;
/** `driver.run`, which as a proxy of its own need not be made at every cell. */
let runCell: Driver["run"];
let prepareCell: Driver["prepare"];
/** Stops what watches Python's own steps. A function of C, so that this is no step itself. */
let quieten: () => boolean;
/** The harness itself, the session's settings in it, and its tools. */
let grounds: Kept[] = [];
let shared: Shared;
let rooms: Rooms;
let freshDisk: Baseline;
const timers = new Timers();
const finalizers = new DeferredFinalizers();
let rawOutput = "";
/** How much more of the running cell's output the host will hear. */
let emitRoom = 0;
let outputChars = 0;
let complaint = "";

listen("unhandledrejection", (event) => event.preventDefault());
listen("message", (event) => {
  // The listener can be found from the global object: it takes nothing but what the platform made.
  if (!event.isTrusted) return;
  answer((event as MessageEvent<ToWorker>).data).catch((error) => {
    post({ op: "broken", message: complaint || describe(error) }, []);
  });
});

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
    case "asset":
      return arrivalOf(message.name).resolve(message.bytes);
    case "wasm":
      return wasmArrived.resolve(message.module);
    case "reserve": {
      rooms.endStream();
      const list = driver.rooms;
      rooms.reserve(message.rooms, list);
      list.destroy();
      return rooms.refusal === null ? done(message.id) : refuseRoom(message.id);
    }
    case "piece":
      rooms.fill(message.bytes, message.width);
      return post({ op: "taken", bytes: message.bytes }, [message.bytes.buffer]);
    case "discard":
      return dropRooms();
    case "assign":
      stand();
      return assign(message);
    case "register":
      stand();
      grounds = [...grounds.slice(0, 2), kept(driver.register(message.declared))];
      return done(message.id);
    case "run": {
      const [text, ...parts] = await run(message.cell, message.code);
      return done(message.id, text, parts);
    }
    case "checkpoint":
      stand();
      return checkpoint(message.id);
    case "compiled":
      return done(message.id, "{}", [Uint8Array.from(script.createCachedData())]);
    case "answer":
      return driver.answered(message.ticket, message.text, message.parts);
    case "cancel":
      return seeSignal();
  }
}

/** Runs a cell. It has ended when nothing is left of it that could run. */
async function run(cell: number, code: string): Promise<[string, ...Part[]]> {
  emitRoom = outputChars;
  ready(cell, code);
  timers.open();
  const end = await runCell.callPromising(cell, code);
  timers.close();
  finalizers.run();
  await timers.turn();
  return typeof end === "string" ? [end] : end;
}

/**
 * Makes all ready for a cell. What an earlier one has left behind may run meanwhile, as finalizers of what is
 * replaced, and change the harness once more: then all is done again, as nothing may once the cell begins.
 */
function ready(cell: number, code: string): void {
  for (let attempt = 0; attempt < READY_ATTEMPTS; attempt++) {
    stand();
    prepareCell(cell, code);
    if (intact()) return;
  }
  throw new Error("what earlier cells have left behind changes the harness again and again");
}

/** Puts the harness back on its feet, if a cell has changed anything of it. */
function stand(): void {
  quieten();
  if (intact()) return;
  for (const { integrity } of grounds) integrity.restoreCore();
  for (const { putBack } of grounds) putBack();
  for (const { locate, integrity } of grounds) integrity.renew(locate());
}

/** Whether the harness is as it was before the cell. */
function intact(): boolean {
  return grounds.every((ground) => ground.integrity.intact);
}

/** Takes a part of the harness for what it is to be: as it was saved, or as it is now. */
function kept([putBack, locateWords, core]: Ground, saved: Part | null = null): Kept {
  const locate = (): Part => {
    const words = locateWords();
    const all = words.toJs();
    words.destroy();
    return all;
  };
  const { _module: module } = pyodide;
  // To work out where all the words are takes longer than the whole start.
  const all = saved === null ? Expected.now(module, locate()) : Expected.saved(saved);
  return { putBack, locate, integrity: new Integrity(module, core, all) };
}

function done(id: number, text = "{}", parts: Part[] = []): void {
  post({ op: "done", id, text, parts }, parts.map((part) => part.buffer));
}

/** Answers a request whose failure is the value's fault and leaves the interpreter sound. */
function refuse(id: number, kind: string, message: string): void {
  post({ op: "refused", id, kind, message }, []);
}

function assign({ id, name, kind, parts }: Extract<ToWorker, { op: "assign" }>): void {
  if (rooms.refusal !== null) return refuseRoom(id);
  if (!rooms.leave()) throw new Error("a value came without its last pieces");
  const refusal = driver.assign(name, kind, parts);
  if (refusal === undefined) return done(id);
  const [error, message] = refusal;
  if (error === "MemoryError") {
    return refuse(id, error, `making it takes more, ${rooms.describeLeft()}`);
  }
  refuse(id, error, message);
}

function refuseRoom(id: number): void {
  const refusal = rooms.refusal!;
  dropRooms();
  refuse(id, "MemoryError", refusal);
}

function dropRooms(): void {
  rooms.leave();
  driver.drop_rooms();
}

/** Saves the interpreter, which goes on as it was. One that cannot be saved says so. */
function checkpoint(id: number): void {
  try {
    driver.rest();
    const { bytes } = grounds[0]!.integrity.expected;
    const parts = [...saveImage(pyodide, bytes), saveDisk(pyodide.FS, freshDisk)];
    done(id, "{}", parts);
  } catch (error) {
    refuse(id, "CheckpointError", describe(error));
  }
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
function callHost(
  mode: CallMode,
  tool: string,
  inline: string,
  parts: Part[] = [],
): string | [string, ...Part[]] {
  Atomics.store(shared.turn, 0, 0);
  post({ op: "call", mode, ticket: 0, tool, inline, parts }, parts.map((part) => part.buffer));
  const [text, ...rest] = takeAnswer(shared);
  return rest.length === 0 ? decoder.decode(text) : [decoder.decode(text), ...rest];
}

/** Asks the host and goes on; the answer comes to the driver, with the number of the ticket. */
function beginCall(ticket: number, tool: string, inline: string, parts: Part[] = []): void {
  post({ op: "call", mode: "aio", ticket, tool, inline, parts }, parts.map((part) => part.buffer));
}

/** Tells whether the cell only waits, so that its clock may stand while the host works. */
function setIdle(idle: boolean): void {
  Atomics.store(shared.idle, 0, Number(idle));
}

/** Sleeps for a moment; Python sleeps in slices, so that a signal is seen between them. */
function pause(milliseconds: number): void {
  Atomics.wait(nothing, 0, 0, milliseconds);
}

/** No more than is shown of a cell: what waits in the main thread is bounded by it. */
function emit(text: string): void {
  const heard = String(text).slice(0, emitRoom);
  if (heard === "") return;
  emitRoom -= heard.length;
  post({ op: "output", text: heard }, []);
}

/** Python has seen a signal. Tells whether it is to act on it. */
function heard(): boolean {
  return acknowledge(shared);
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
    beginCall,
    setIdle,
    pause,
    emit,
    drainRaw,
    heard,
    intact,
    ...timers.globals,
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
  outputChars = message.outputChars;
  globalThis.console = quietConsole();
  Object.assign(globalThis, timers.globals, { FinalizationRegistry: finalizers.Registry });
  scrubGlobals(KEPT_GLOBALS.union(BOOT_GLOBALS));
  capMemory(message.memoryBytes);
  const runtime = await compileRuntime(message.names);
  const head = message.names.includes("boot.head") ? await arrival("boot.head") : null;
  const state = head && imageState(head);
  if (state === null) repeatEverything(); // an image is being made, the same one by everybody
  narrowCrypto();
  watchLibraries();
  serveFromMemory(await arrival("python_stdlib.zip"), head);
  pyodide = await runtime.loadPyodide({
    indexURL: HOME,
    createPyodideModule: async (settings: object) => {
      const program = await runtime.createPyodideModule(settings);
      if (message.names.includes("packages.bundle")) {
        mountPackages(program.FS, await arrival("packages.bundle"));
      }
      if (state !== null) {
        // Before the image is put into memory: whatever loading does to the memory, the image undoes.
        loadLibraries(program, state);
        putPages(program, await arrival("boot.pages"));
      }
      return program;
    },
    lockFileContents: { info: PACKAGE_INFO, packages: {} },
    jsglobals: pythonGlobals(),
    stdin: () => null,
    stdout: () => {},
    stderr: () => {},
    checkAPIVersion: true,
    _makeSnapshot: true,
    ...(state !== null && { _loadSnapshot: state }),
  });
  scrubGlobals(KEPT_GLOBALS);
  letGoOfImage();
  stopWorkElsewhere();
  lockIntrinsics();
  for (const name of message.names.filter((name) => name.endsWith(".py"))) {
    writeSource(name, await arrival(name));
  }
  freshDisk = baselineOf(pyodide.FS);
  catchRawOutput();
  if (message.names.includes("disk")) restoreDisk(pyodide.FS, await arrival("disk"));
  pyodide.setInterruptBuffer(message.shared.interrupt);
  ({ driver, quieten } = pyodide.pyimport("sandbox_runtime.guest.entry"));
  runCell = driver.run;
  prepareCell = driver.prepare;
  rooms = new Rooms(pyodide._module, message.memoryBytes);
  const seed = state === null ? "" : message.seed;
  const settings = driver.wake(message.outputChars, message.valueBytes, seed);
  // What the loading itself, or what a saved cell left behind, has changed since the image was made is put back.
  grounds = [kept(driver.ground(), head && imageHarness(head)), kept(settings)];
  stand();
  noteLibraries(pyodide);
  timers.close();
}

/** A file that the host sends. It may come before it is asked for, or after. */
function arrivalOf(name: string): PromiseWithResolvers<Part> {
  let file = files.get(name);
  if (file === undefined) files.set(name, file = Promise.withResolvers<Part>());
  return file;
}

/** Takes a file, once: tens of megabytes are not to be kept here. */
async function arrival(name: string): Promise<Part> {
  const bytes = await arrivalOf(name).promise;
  files.delete(name);
  return bytes;
}

/** Pyodide as a script, which V8 loads from its own compiled form ten times faster than a module. */
async function compileRuntime(names: string[]): Promise<Runtime> {
  const cachedData = names.includes("pyodide.cache") && await arrival("pyodide.cache");
  const source = decoder.decode(await arrival("pyodide.js"));
  script = new vm.Script(source, {
    filename: "pyodide.js",
    ...(cachedData && { cachedData }),
  });
  return script.runInThisContext() as Runtime;
}

/** Answers Pyodide's own requests for its files; this realm could not fetch them. */
function serveFromMemory(stdlib: Part, head: Part | null): void {
  WebAssembly.instantiateStreaming = async (_source, imports) => {
    const wasm = await wasmArrived.promise;
    const instance = new WebAssembly.Instance(wasm, imports);
    if (head !== null) growTo(instance, imageBytes(head));
    return { instance, module: wasm };
  };
  const file = { ok: true, arrayBuffer: () => Promise.resolve(stdlib.buffer) };
  globalThis.fetch = () => Promise.resolve(file as Response);
}

/** What Pyodide was started from is not needed again. */
function letGoOfImage(): void {
  pyodide._api.config._loadSnapshot = null;
}

function writeSource(name: string, bytes: Part): void {
  const path = `/lib/python3.14/site-packages/sandbox_runtime/guest/${name}`;
  pyodide.FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
  pyodide.FS.writeFile(path, bytes);
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
