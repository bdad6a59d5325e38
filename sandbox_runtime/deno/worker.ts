/**
 * Runs Pyodide in a worker without permissions, and makes no decisions.
 *
 * Scrubs its own globals, starts the interpreter from memory, and passes each request to the Python driver
 * (`entry.py`). After the start it reads the host's requests from the pipe itself, and writes its answers there. The
 * host checks everything that it writes: code that escapes from Python reaches this realm, which has no permissions.
 *
 * @module
 */

import { CellClock } from "./cell_clock.ts";
import { CellOutput } from "./cell_output.ts";
import { type Baseline, baselineOf, restoreDisk, saveDisk } from "./disk.ts";
import type { Part } from "./frames.ts";
import { Harness, type Preparation } from "./harness.ts";
import { ABANDONED, HostCalls } from "./host_calls.ts";
import { HostFile } from "./host_file.ts";
import { HostPipe } from "./host_pipe.ts";
import { imageHarness, saveImage } from "./image.ts";
import { IncomingFiles } from "./incoming_files.ts";
import { type Started, startInterpreter } from "./interpreter.ts";
import { noteLibraries } from "./packages.ts";
import {
  endMessage,
  outputMessage,
  parseRequest,
  refusalMessage,
  type Request,
} from "./protocol.ts";
import type { Driver, Pyodide } from "./pyodide_types.ts";
import { pythonGlobals } from "./python_globals.ts";
import { BOOT_GLOBALS, capMemory, KEPT_GLOBALS, scrubGlobals } from "./realm_scrub.ts";
import { clearSignals, HostSignals } from "./signals.ts";
import { Submission } from "./submission.ts";
import { DeferredFinalizers, Timers } from "./timers.ts";
import { Rooms } from "./value_buffers.ts";
import type { Boot, FromWorker, ToWorker } from "./worker_messages.ts";
import { FrameWriter } from "./writer.ts";

/** At most so many cells run before the event loop turns. */
const CELLS_PER_TURN = 16;

const scope = self as unknown as { postMessage: typeof post };
const post: (message: FromWorker) => void = scope.postMessage.bind(scope);
const listen = self.addEventListener.bind(self);
// Captured before the realm is scrubbed. Deno lets a worker without permissions use both.
const read = Deno.stdin.readSync.bind(Deno.stdin);
const writer = new FrameWriter(Deno.stdout.writeSync.bind(Deno.stdout));

const files = new IncomingFiles();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const wasmArrived = Promise.withResolvers<WebAssembly.Module>();
const timers = new Timers((milliseconds) => clock?.noteTimer(milliseconds));
const finalizers = new DeferredFinalizers();
const submission = new Submission();
const output = new CellOutput((text) => writer.send(...outputMessage(calls.request, text)));

let shared: Boot["shared"];
let clock: CellClock;
let signals: HostSignals;
let pipe: HostPipe;
let calls: HostCalls;
let pyodide: Pyodide;
let script: Started["script"];
let driver: Driver;
/** Methods of `driver`: creating a proxy for each cell would cost time. */
let runCell: Driver["run"];
let prepareCell: Driver["prepare"];
let beginCell: Driver["begin"];
let release: Driver["release"];
let isPrepared: Driver["is_prepared"];
let harness: Harness;
let rooms: Rooms;
let freshDisk: Baseline;
let outputChars = 0;
/** True while the next cell is prepared, the harness was found intact after that, and no request has come since. */
let ready = false;
/** True until a cell or a value enters the interpreter: up to then it contains nothing but the harness. */
let fresh = false;
/** The last thing that Pyodide wrote to the console as a warning or an error. */
let complaint = "";

listen("unhandledrejection", (event) => event.preventDefault());
listen("message", (event) => {
  // Code in this realm can find the listener, so it accepts only events that the platform created.
  if (!event.isTrusted) return;
  handle((event as MessageEvent<ToWorker>).data).catch(breakDown);
});

/** Handles a message of the main thread. After the start they arrive only while a cell awaits something. */
async function handle(message: ToWorker): Promise<void> {
  switch (message.op) {
    case "boot":
      await boot(message);
      respond(message.id);
      prepareNext(1);
      return serve().catch(breakDown);
    case "asset":
      return files.deliver(message.name, message.bytes);
    case "wasm":
      return wasmArrived.resolve(message.module);
    case "answer": {
      const { id, body, parts, interrupts } = message;
      const ticket = calls.takeTicket(id);
      if (ticket === null) return;
      if (interrupts === null) return driver.answered(ticket, decoder.decode(body), parts);
      calls.interruptAwaited(interrupts);
      return driver.answered(ticket, ABANDONED, []);
    }
    case "cancel":
      return checkSignal();
  }
}

/** Handles the host's requests, one after the other. In between the event loop does not turn. */
async function serve(): Promise<never> {
  for (;;) {
    const request = parseRequest(pipe.takeRequest());
    clock.beginRequest();
    await answer(request);
    clock.endRequest();
  }
}

async function answer(request: Request): Promise<void> {
  const prepared = ready;
  ready = false; // any request may let something run
  switch (request.method) {
    case "reserve": {
      rooms.endStream();
      const list = driver.rooms;
      rooms.reserve(request.rooms, list);
      list.destroy();
      return rooms.refusal === null ? respond(request.id) : refuseRoom(request.id);
    }
    case "piece":
      rooms.fill(request.bytes, request.width);
      return pipe.recycle(request.bytes);
    case "discard":
      return dropRooms();
    case "assign":
      if (!prepared) prepare({ prepare: () => driver.unsettled(), isPrepared: () => true });
      fresh = false;
      return assign(request);
    case "register":
      if (!prepared) harness.restore();
      harness.setTools(driver.register(JSON.stringify(request.params)));
      ready = prepared && fresh; // otherwise what is replaced may have finalizers
      return respond(request.id);
    case "run": {
      const { cell, code } = request.params;
      const [text, ...parts] = await run(request.id, { cell, code, prepared });
      respond(request.id, text, parts);
      // While the host reads the result.
      return prepareNext(cell + 1);
    }
    case "settle":
      ready = prepared;
      signals.settle(request.interrupts);
      return respond(request.id);
    case "checkpoint":
      harness.restore();
      return checkpoint(request.id);
    case "compiled":
      return respond(request.id, "{}", [Uint8Array.from(script.createCachedData())]);
    default:
      throw new Error(`the request ${request.method} came after the start`);
  }
}

/** Ends the process after an error that is not a cell's. */
function breakDown(error: unknown): void {
  post({ op: "broken", message: complaint || describe(error) });
}

// ---- Start ----

async function boot(message: Boot): Promise<void> {
  const { names, relayed } = message;
  shared = message.shared;
  clock = new CellClock(shared);
  clock.beginRequest(); // to build an image takes more than what is allowed between requests
  signals = new HostSignals(shared);
  pipe = new HostPipe(read, { shared, post, relayed });
  calls = new HostCalls({ shared, pipe, writer, clock, signals, checkSignal });
  const hostFile = new HostFile(calls, shared.interrupt);
  outputChars = message.outputChars;
  globalThis.console = quietConsole();
  Object.assign(globalThis, timers.globals, { FinalizationRegistry: finalizers.Registry });
  scrubGlobals(KEPT_GLOBALS.union(BOOT_GLOBALS));
  capMemory(message.memoryBytes);
  const started = await startInterpreter({
    names,
    files,
    wasm: wasmArrived.promise,
    hostFile,
    signals: shared.signals,
    pythonGlobals: () =>
      pythonGlobals({
        shared,
        output,
        calls,
        clock,
        signals,
        intact: (whole) => whole ? harness.intact : harness.nearIntact,
        timers: timers.globals,
        hold: (address, length, most) =>
          submission.hold(pyodide._module.HEAPU8.subarray(address, address + length), most),
      }),
  });
  ({ pyodide, script } = started);
  hostFile.open(pyodide._module);
  freshDisk = baselineOf(pyodide.FS);
  output.catchRaw(pyodide);
  if (names.includes("disk")) restoreDisk(pyodide.FS, await files.take("disk"));
  pyodide.setInterruptBuffer(shared.interrupt);
  const entry = pyodide.pyimport("sandbox_runtime.guest.entry");
  driver = entry.driver;
  runCell = driver.run;
  prepareCell = driver.prepare;
  beginCell = driver.begin;
  release = driver.release;
  isPrepared = driver.is_prepared;
  rooms = new Rooms(pyodide._module, message.memoryBytes);
  const { head } = started;
  const seed = head === null ? "" : message.seed;
  const settings = driver.wake(outputChars, message.valueBytes, seed, message.cellSeconds);
  harness = new Harness(pyodide._module, entry.hush, {
    memory: started.memory,
    keyTables: driver.key_tables(),
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
  request: number,
  { cell, code, prepared }: { cell: number; code: string; prepared: boolean },
): Promise<[string, ...Part[]]> {
  beginClock(request);
  output.begin(outputChars);
  if (!prepared || !beginCell(cell, code)) prepareFor(cell, code);
  fresh &&= code === "";
  timers.open();
  // Otherwise Pyodide would let the event loop turn first, which takes a tenth of a warm cell's time.
  pyodide._module.stackIsEmpty = true;
  const end = await runCell.callPromising(cell, code);
  timers.close();
  finalizers.run();
  await turn(cell);
  calls.end();
  clock.end();
  const [text, ...parts] = typeof end === "string" ? [end] : end;
  return [text, ...submission.complete(parts)];
}

/**
 * Lets the event loop turn once, if the cell may have left something in it. A cell that has neither waited nor set a
 * timer has not, and each turn costs a warm cell a thirtieth of its time. Only now and then the platform needs one as
 * well, for the finalizers of its own objects.
 */
async function turn(cell: number): Promise<void> {
  if (timers.used || clock.waited || cell % CELLS_PER_TURN === 0) await timers.turn();
}

/** Starts the cell's clock. From here on signals are for this cell. */
function beginClock(request: number): void {
  calls.begin(request);
  clearSignals(shared);
  clock.begin();
  signals.begin(clock.cell);
}

/** Prepares the cell that is expected next; only its code is missing. */
function prepareNext(cell: number): void {
  prepareFor(cell, "");
  ready = true;
}

function prepareFor(cell: number, code: string): void {
  prepare({ prepare: (plain) => prepareCell(cell, code, plain), isPrepared }, code);
}

/** Restores the harness, so that nothing of earlier cells has a part in what follows. */
function prepare(steps: Pick<Preparation, "prepare" | "isPrepared">, code = ""): void {
  harness.prepare({
    ...steps,
    release,
    settle: () => driver.settle_lazy(code),
    unsettle: () => driver.unsettle(),
    ground: () => driver.tools_ground(),
  });
}

function assign(
  { id, params: { name, kind }, attachments }: Extract<Request, { method: "assign" }>,
): void {
  if (rooms.refusal !== null) return refuseRoom(id);
  if (!rooms.leave()) throw new Error("a value came without its last pieces");
  const refusal = driver.assign(name, kind, attachments);
  if (refusal === undefined) return respond(id);
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
    respond(id, "{}", parts);
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

function respond(id: number, text = "{}", parts: Part[] = []): void {
  writer.send(...endMessage(id, text), parts);
  clock.endRequest();
}

/** Answers a request that failed because of its value, and left the interpreter sound. */
function refuse(id: number, kind: string, message: string): void {
  writer.send(...refusalMessage(id, kind, message));
  clock.endRequest();
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message || error.name : "unknown error";
}
