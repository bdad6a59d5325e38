/**
 * The sandbox process's main thread: owns the pipe and the clock, and never runs user code.
 *
 * Reads the host's requests, hands them to the worker one at a time, watches how long a cell works,
 * and ends the process when a limit cannot be kept any other way. stdout is the wire.
 *
 * @module
 */

import type { Boot, FromWorker, Shared, ToWorker } from "./link.ts";
import * as wire from "./protocol.ts";
import workerSource from "./worker.ts" with { type: "text" };

type Part = Uint8Array<ArrayBuffer>;

/** Frames of the host are trusted; this only keeps a corrupt length from looking like one. */
const LARGEST_REQUEST = 2 ** 40;
/** One piece of an answer to a tool call. */
const WINDOW_BYTES = 1024 * 1024;
/** A frame up to this size fits into a pipe that the host keeps empty, so writing it does not block. */
const SMALL_FRAME_BYTES = 16 * 1024;
/** How often the clock is read while a cell runs. */
const TICK_MILLISECONDS = 20;
/** How often a cell that ignores an interrupt is interrupted again. */
const INSIST_MILLISECONDS = 200;
/** How often it is checked that the parent process lives; its pipe may outlive it in a forked child. */
const PARENT_MILLISECONDS = 500;

const SIGINT = 2;
const SIGALRM = 14;

const encoder = new TextEncoder();

/** Measures the sandbox's own work in a cell: it stands still while the host works for the cell. */
class CellClock {
  #spent = 0;
  #since: number | null = null;

  get running(): boolean {
    return this.#since !== null;
  }

  get milliseconds(): number {
    return this.#spent + (this.#since === null ? 0 : performance.now() - this.#since);
  }

  start(): void {
    this.#since ??= performance.now();
  }

  pause(): void {
    this.#spent = this.milliseconds;
    this.#since = null;
  }
}

/** A request that the worker is working on. */
interface Current {
  request: wire.Request & { id: number };
  clock: CellClock;
  timer: ReturnType<typeof setInterval> | undefined;
  lastSignal: number;
  /** The signal that Python has to see, or 0. */
  signal: number;
}

class Sandbox {
  #shared: Shared = {
    interrupt: new Uint8Array(new SharedArrayBuffer(1)),
    heard: new Int32Array(new SharedArrayBuffer(4)),
    turn: new Int32Array(new SharedArrayBuffer(4)),
    sizes: new Float64Array(new SharedArrayBuffer(16)),
    window: new Uint8Array(new SharedArrayBuffer(WINDOW_BYTES)),
  };
  #worker: Worker = this.#startWorker();
  #limits: wire.Initialize | null = null;
  #current: Current | null = null;
  /** The tool call that waits for the host's answer. */
  #call: number | null = null;
  #nextCall = 1;
  #writing: Promise<void> = Promise.resolve();
  #unwritten = 0;

  async receive(frame: wire.Frame): Promise<void> {
    const message = wire.parseHostFrame(frame);
    if (!("method" in message)) return await this.#answerCall(message);
    if (message.method === "interrupt") return this.#signal(SIGINT);
    if (this.#current !== null) {
      throw new wire.ProtocolError("A request came before the last one ended.");
    }
    const clock = new CellClock();
    this.#current = { request: message, clock, timer: undefined, lastSignal: 0, signal: 0 };
    switch (message.method) {
      case "initialize":
        return await this.#initialize(message);
      case "assign": {
        const { params: { name, kind }, attachments: parts } = message;
        return this.#tell({ op: "assign", id: message.id, name, kind, parts }, parts);
      }
      case "register":
        return this.#tell({
          op: "register",
          id: message.id,
          declared: JSON.stringify(message.params),
        });
      case "run":
        this.#shared.interrupt[0] = 0;
        clock.start();
        this.#current.timer = setInterval(() => this.#watch(), TICK_MILLISECONDS);
        return this.#tell({ op: "run", id: message.id, ...message.params });
      case "checkpoint":
        return this.#tell({ op: "checkpoint", id: message.id });
    }
  }

  /** Says why, then ends the process. The host takes the end of the pipe for the end of the session. */
  async end(reason: string, message: string): Promise<never> {
    this.#send(wire.fatal(reason, message));
    await this.#writing;
    Deno.exit(1);
  }

  async #initialize(
    { id, params, attachments }: Extract<wire.Request, { method: "initialize" }>,
  ): Promise<void> {
    if (params.version !== wire.PROTOCOL_VERSION) {
      return await this.end(
        "version",
        `This end speaks version ${wire.PROTOCOL_VERSION} of the protocol, the host ${params.version}.`,
      );
    }
    this.#limits = params;
    const assets = new Map(params.assets.map((name, place) => [name, attachments[place]!]));
    const take = (name: string): Part => {
      const bytes = assets.get(name);
      if (bytes === undefined) throw new wire.ProtocolError(`The asset ${name} is missing.`);
      assets.delete(name);
      return bytes;
    };
    const loader = moduleUrl(take("pyodide.mjs"), "text/javascript");
    const runtime = moduleUrl(take("pyodide.asm.mjs"), "text/javascript");
    const wasm = take("pyodide.asm.wasm");
    const stdlib = take("python_stdlib.zip");
    const image = assets.get("boot.image") ?? null;
    const packages = assets.get("packages.bundle") ?? null;
    assets.delete("boot.image");
    assets.delete("packages.bundle");
    const boot: Boot = {
      op: "boot",
      id,
      loader,
      runtime,
      stdlib,
      image,
      packages,
      sources: Object.fromEntries(assets),
      memoryBytes: params.memoryBytes,
      outputChars: params.outputChars,
      shared: this.#shared,
    };
    this.#tell(boot, [stdlib, image, packages].filter((part) => part !== null));
    this.#tell({ op: "wasm", module: await WebAssembly.compile(wasm) });
  }

  /** Starts at once, while the host still sends what the worker will need. */
  #startWorker(): Worker {
    const entry = moduleUrl(workerSource, "text/javascript");
    const worker = new Worker(
      entry,
      { type: "module", deno: { permissions: "none" } } as WorkerOptions,
    );
    worker.addEventListener("message", (event) => {
      this.#hear((event as MessageEvent<FromWorker>).data).catch((error) => {
        this.end("protocol", error instanceof Error ? error.message : "unknown error");
      });
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.end("crash", event.message);
    });
    return worker;
  }

  async #hear(message: FromWorker): Promise<void> {
    switch (message.op) {
      case "done":
        return this.#finish(message.id, message.text, message.parts);
      case "refused": {
        const { id } = this.#take(message.id).request;
        return this.#send(wire.failure(id, String(message.kind), String(message.message)));
      }
      case "call":
        return this.#forwardCall(String(message.tool), String(message.inline), message.parts);
      case "output":
        return this.#send(wire.output(this.#cell().params.cell, String(message.text)));
      case "broken":
        return await this.end("crash", String(message.message));
      default:
        throw new wire.ProtocolError("The worker said something unknown.");
    }
  }

  #finish(id: number, text: string, parts: Part[]): void {
    const { request } = this.#take(id);
    switch (request.method) {
      case "initialize":
        return this.#send(wire.result(id, { version: wire.PROTOCOL_VERSION }));
      case "run":
        return this.#send(wire.result(id, wire.parseCellEnd(text), parts));
      default:
        return this.#send(wire.result(id, {}, parts));
    }
  }

  /** Ends the current request; what the worker says of any other is a breach of protocol. */
  #take(id: number): Current {
    const current = this.#current;
    if (current === null || current.request.id !== id || this.#call !== null) {
      throw new wire.ProtocolError("The worker answered what was not asked.");
    }
    clearInterval(current.timer);
    this.#current = null;
    return current;
  }

  #cell(): Extract<wire.Request, { method: "run" }> {
    const request = this.#current?.request;
    if (request?.method !== "run") throw new wire.ProtocolError("The worker spoke outside a cell.");
    return request;
  }

  // ---- Tool calls ----

  #forwardCall(tool: string, inline: string, parts: Part[]): void {
    const { params } = this.#cell();
    if (this.#call !== null) {
      throw new wire.ProtocolError("A second tool call came before an answer.");
    }
    this.#call = this.#nextCall++;
    this.#current!.clock.pause();
    this.#send(wire.call(this.#call, { cell: params.cell, tool, inline }, parts));
  }

  async #answerCall(answer: wire.Answer): Promise<void> {
    if (answer.id !== this.#call) {
      throw new wire.ProtocolError("The host answered what was not asked.");
    }
    // The clock runs again from here: taking the answer is the sandbox's own work.
    this.#current?.clock.start();
    const reply = encoder.encode(JSON.stringify(answer.reply));
    await this.#passToWorker(pack([reply, ...answer.attachments]));
  }

  /** Moves an answer through the shared window, piece by piece, in turn with the worker. */
  async #passToWorker(pieces: Part[]): Promise<void> {
    const { turn, sizes, window } = this.#shared;
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
    let sent = 0;
    let filled = 0;
    const flush = async (): Promise<void> => {
      sizes[0] = total;
      sizes[1] = filled;
      sent += filled;
      filled = 0;
      // After the last piece the worker may call again, before this function goes on.
      if (sent === total) this.#call = null;
      Atomics.store(turn, 0, 1);
      Atomics.notify(turn, 0);
      if (sent < total) await Atomics.waitAsync(turn, 0, 1).value;
    };
    for (const piece of pieces) {
      for (let at = 0; at < piece.length;) {
        const taken = Math.min(window.length - filled, piece.length - at);
        window.set(piece.subarray(at, at + taken), filled);
        filled += taken;
        at += taken;
        if (filled === window.length && sent + filled < total) await flush();
      }
    }
    await flush();
  }

  // ---- The clock ----

  #watch(): void {
    const current = this.#current;
    if (current === null || !current.clock.running) return;
    const { cellSeconds, graceSeconds } = this.#limits!;
    const spent = current.clock.milliseconds;
    if (spent > (cellSeconds + graceSeconds) * 1000) {
      this.end("cellSeconds", "The cell did not stop when it was interrupted.");
    } else if (spent > cellSeconds * 1000 && spent - current.lastSignal > INSIST_MILLISECONDS) {
      current.lastSignal = spent;
      this.#signal(SIGALRM);
    } else if (current.signal !== 0 && Atomics.load(this.#shared.heard, 0) === 0) {
      this.#signal(current.signal);
    }
  }

  /** A running cell sees the signal itself; one that waits in `await` must be woken as well. */
  #signal(number: number): void {
    if (this.#current?.request.method !== "run") return;
    this.#current.signal = number;
    Atomics.store(this.#shared.heard, 0, 0);
    this.#shared.interrupt[0] = number;
    this.#tell({ op: "cancel" });
  }

  // ---- Pipes ----

  #tell(message: ToWorker, move: Part[] = []): void {
    if (this.#limits === null) {
      throw new wire.ProtocolError("The first request must be initialize.");
    }
    this.#worker.postMessage(message, move.map((part) => part.buffer));
  }

  /** Writes a small frame at once, which saves a turn of the event loop; a large one in the background. */
  #send(frame: wire.Frame): void {
    const pieces = wire.encodeFrame(frame);
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#unwritten += 1;
    if (total <= SMALL_FRAME_BYTES && this.#unwritten === 1) {
      writeAllSync(concat(pieces, total));
      this.#unwritten -= 1;
      return;
    }
    this.#writing = this.#writing.then(async () => {
      for (const piece of pieces) await writeAll(piece);
      this.#unwritten -= 1;
    });
  }
}

function concat(pieces: Uint8Array[], total: number): Uint8Array {
  const whole = new Uint8Array(total);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

async function writeAll(bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
}

function writeAllSync(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

function moduleUrl(source: Part | string, type: string): string {
  return URL.createObjectURL(new Blob([source], { type }));
}

/** Puts a count and the lengths before the parts; `unpack` in `worker.ts` undoes it. */
function pack(parts: Part[]): Part[] {
  const head = new Float64Array([parts.length, ...parts.map((part) => part.length)]);
  return [new Uint8Array(head.buffer), ...parts];
}

async function main(): Promise<void> {
  const parent = Deno.ppid;
  setInterval(() => Deno.ppid !== parent && Deno.exit(1), PARENT_MILLISECONDS);
  const sandbox = new Sandbox();
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    sandbox.end("crash", String(event.reason));
  });
  const reader = new wire.FrameReader(LARGEST_REQUEST);
  for (;;) {
    const count = await Deno.stdin.read(reader.space());
    if (count === null) Deno.exit(0);
    try {
      for (const frame of reader.advance(count)) sandbox.receive(frame);
    } catch (error) {
      await sandbox.end("protocol", error instanceof Error ? error.message : "unknown error");
    }
  }
}

if (import.meta.main) await main();
