/**
 * Runs Pyodide in a worker without permissions, and makes no decisions.
 *
 * Scrubs its own globals, starts the interpreter from memory, and passes each request to the Python driver
 * (`entry.py`). `sandbox.ts` checks everything that it posts: code that escapes from Python reaches this realm,
 * which has no permissions.
 *
 * @module
 */

import { CellOutput } from "./cell_output.ts";
import { type Baseline, baselineOf, restoreDisk, saveDisk } from "./disk.ts";
import type { Part } from "./frames.ts";
import { Harness } from "./harness.ts";
import { imageHarness, saveImage } from "./image.ts";
import { IncomingFiles } from "./incoming_files.ts";
import { type Started, startInterpreter } from "./interpreter.ts";
import { noteLibraries } from "./packages.ts";
import type { Driver, Pyodide } from "./pyodide_types.ts";
import { pythonGlobals } from "./python_globals.ts";
import { BOOT_GLOBALS, capMemory, KEPT_GLOBALS, scrubGlobals } from "./realm_scrub.ts";
import { Submission } from "./submission.ts";
import { DeferredFinalizers, Timers } from "./timers.ts";
import { Rooms } from "./value_buffers.ts";
import type { Boot, FromWorker, ToWorker } from "./worker_messages.ts";

const scope = self as unknown as { postMessage: typeof post };
const post: (message: FromWorker, move: Transferable[]) => void = scope.postMessage.bind(scope);
const listen = self.addEventListener.bind(self);

const files = new IncomingFiles();
const wasmArrived = Promise.withResolvers<WebAssembly.Module>();
const timers = new Timers();
const finalizers = new DeferredFinalizers();
const submission = new Submission();
const output = new CellOutput((text) => post({ op: "output", text }, []));

let pyodide: Pyodide;
let script: Started["script"];
let driver: Driver;
/** Methods of `driver`: creating a proxy for each cell would cost time. */
let runCell: Driver["run"];
let prepareCell: Driver["prepare"];
let beginCell: Driver["begin"];
let harness: Harness;
let rooms: Rooms;
let freshDisk: Baseline;
let outputChars = 0;
/** True while the next cell is prepared, the harness was found intact after that, and no message has come since. */
let ready = false;
/** True until a cell or a value enters the interpreter: up to then it contains nothing but the harness. */
let fresh = false;
/** The last thing that Pyodide wrote to the console as a warning or an error. */
let complaint = "";

listen("unhandledrejection", (event) => event.preventDefault());
listen("message", (event) => {
  // Code in this realm can find the listener, so it accepts only events that the platform created.
  if (!event.isTrusted) return;
  answer((event as MessageEvent<ToWorker>).data).catch((error) => {
    post({ op: "broken", message: complaint || describe(error) }, []);
  });
});

async function answer(message: ToWorker): Promise<void> {
  const prepared = ready;
  ready = false; // any message may let something run
  switch (message.op) {
    case "boot":
      await boot(message);
      done(message.id);
      return prepareNext(1);
    case "asset":
      return files.deliver(message.name, message.bytes);
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
      if (!prepared) prepare(() => driver.unsettled());
      fresh = false;
      return assign(message);
    case "register":
      if (!prepared) harness.restore();
      harness.setTools(driver.register(message.declared));
      ready = prepared && fresh; // otherwise what is replaced may have finalizers
      return done(message.id);
    case "run": {
      const [text, ...parts] = await run(message.cell, message.code, prepared);
      done(message.id, text, parts);
      // While the host reads the result.
      return prepareNext(message.cell + 1);
    }
    case "checkpoint":
      harness.restore();
      return checkpoint(message.id);
    case "compiled":
      return done(message.id, "{}", [Uint8Array.from(script.createCachedData())]);
    case "answer":
      return driver.answered(message.ticket, message.text, message.parts);
    case "cancel":
      return checkSignal();
  }
}

// ---- Start ----

async function boot(message: Boot): Promise<void> {
  const { names, shared } = message;
  outputChars = message.outputChars;
  globalThis.console = quietConsole();
  Object.assign(globalThis, timers.globals, { FinalizationRegistry: finalizers.Registry });
  scrubGlobals(KEPT_GLOBALS.union(BOOT_GLOBALS));
  capMemory(message.memoryBytes);
  const started = await startInterpreter({
    names,
    files,
    wasm: wasmArrived.promise,
    signals: shared.signals,
    pythonGlobals: () =>
      pythonGlobals({
        shared,
        output,
        post,
        intact: () => harness.intact,
        timers: timers.globals,
        hold: (address, length, most) =>
          submission.hold(pyodide._module.HEAPU8.subarray(address, address + length), most),
      }),
  });
  ({ pyodide, script } = started);
  freshDisk = baselineOf(pyodide.FS);
  output.catchRaw(pyodide);
  if (names.includes("disk")) restoreDisk(pyodide.FS, await files.take("disk"));
  pyodide.setInterruptBuffer(shared.interrupt);
  const entry = pyodide.pyimport("sandbox_runtime.guest.entry");
  driver = entry.driver;
  runCell = driver.run;
  prepareCell = driver.prepare;
  beginCell = driver.begin;
  rooms = new Rooms(pyodide._module, message.memoryBytes);
  const { head } = started;
  const seed = head === null ? "" : message.seed;
  const settings = driver.wake(outputChars, message.valueBytes, seed, message.cellSeconds);
  harness = new Harness(pyodide._module, entry.quieten, {
    harness: driver.ground(),
    settings,
    saved: head && imageHarness(head),
  });
  // Undoes what loading has changed since the image was made, and what a saved cell left behind.
  harness.restore();
  harness.setTools(driver.tools_ground());
  noteLibraries(pyodide);
  timers.close();
  fresh = head !== null && !names.includes("disk");
}

/** Replaces the console, which would write into the pipe. Pyodide's complaints are kept. */
function quietConsole(): Console {
  const note = (...words: unknown[]): void => {
    complaint = words.map((word) => word instanceof Error ? word.message : String(word)).join(" ");
  };
  const ignore = (): void => {};
  return Object.assign(Object.create(null), { log: ignore, info: ignore, warn: note, error: note });
}

// ---- Requests ----

/** Runs a cell, which may be `prepared` but for its code. It ends once nothing of it is left that could still run. */
async function run(
  cell: number,
  code: string,
  prepared: boolean,
): Promise<[string, ...Part[]]> {
  output.begin(outputChars);
  if (!prepared || !beginCell(cell, code)) prepare(() => prepareCell(cell, code), code);
  fresh &&= code === "";
  timers.open();
  const end = await runCell.callPromising(cell, code);
  timers.close();
  finalizers.run();
  await timers.turn();
  const [text, ...parts] = typeof end === "string" ? [end] : end;
  return [text, ...submission.complete(parts)];
}

/** Prepares the cell that is expected next; only its code is missing. */
function prepareNext(cell: number): void {
  prepare(() => prepareCell(cell, ""));
  ready = true;
}

/** Restores the harness, so that nothing of earlier cells has a part in what follows. */
function prepare(step: () => boolean, code = ""): void {
  harness.prepare({
    prepare: step,
    settle: () => driver.settle_lazy(code),
    unsettle: () => driver.unsettle(),
    ground: () => driver.tools_ground(),
  });
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

/** Saves the interpreter, which then continues. Refuses if it cannot be saved. */
function checkpoint(id: number): void {
  try {
    driver.rest();
    const parts = [...saveImage(pyodide, harness.bytes), saveDisk(pyodide.FS, freshDisk)];
    done(id, "{}", parts);
  } catch (error) {
    refuse(id, "CheckpointError", describe(error));
  }
}

/** Lets Python see a signal while its cell waits. An exception of the handler has no code to stop here. */
function checkSignal(): void {
  try {
    pyodide.checkInterrupt();
  } catch {
    // The handler has cancelled what the cell waits for.
  }
}

// ---- Answers ----

function done(id: number, text = "{}", parts: Part[] = []): void {
  post({ op: "done", id, text, parts }, parts.map((part) => part.buffer));
}

/** Answers a request that failed because of its value, and left the interpreter sound. */
function refuse(id: number, kind: string, message: string): void {
  post({ op: "refused", id, kind, message }, []);
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message || error.name : "unknown error";
}
