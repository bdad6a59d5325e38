/**
 * The sandbox process's main thread: owns the pipe and the clock, and never runs user code.
 *
 * Reads the host's requests, hands them to the worker one at a time, watches how long a cell works,
 * and ends the process when a limit cannot be kept any other way. stdout is the wire.
 *
 * @module
 */

import { CellWatch, RestWatch } from "./cell_watch.ts";
import { Heard } from "./output_buffer.ts";
import { type Frame, FrameReader, type Part, ProtocolError } from "./frames.ts";
import type { FromWorker, Shared, ToWorker } from "./worker_messages.ts";
import * as wire from "./protocol.ts";
import { resend, send } from "./signals.ts";
import { makeShared, passAnswer } from "./shared_answer.ts";
import { Writer } from "./writer.ts";
import workerSource from "./worker.ts" with { type: "text" };

/** Frames of the host are trusted; this only keeps a corrupt length from looking like one. */
const LARGEST_REQUEST = 2 ** 40;
/** More calls than this at a time are an accident or an attack; the host works on few at once. */
const MAX_OPEN_CALLS = 10_000;
/** How often the watch is looked at while a cell runs. */
const TICK_MILLISECONDS = 20;
/** What most pieces of a value are long; see `PIECE_BYTES` in `chunks.py`. */
const PIECE_BYTES = 1024 * 1024;
/** Pieces of a value that the worker has not taken yet; with more, the host has to wait. */
const MAX_PIECES = 8;
/** A worker that takes no piece for so long does something else, which nobody asked for. */
const PIECE_SECONDS = 30;
/**
 * How often it is checked that the parent process lives (its pipe may outlive it in a forked child), and
 * that nothing works between requests.
 */
const CHECK_MILLISECONDS = 500;
/** A host that reads nothing for so long is not told why the process ends. */
const END_MILLISECONDS = 1000;

const SIGINT = 2;
const SIGALRM = 14;

/** What a call comes back with that was interrupted. */
const INTERRUPTED = { interrupted: true };

const encoder = new TextEncoder();

/** A request that the worker is working on. */
interface Current {
  request: wire.Request & { id: number };
  watch: CellWatch | null;
  timer: ReturnType<typeof setInterval> | undefined;
  /** The signal that Python has to see, or 0. */
  signal: number;
  /** What the cell has printed and the host has not heard. */
  heard: Heard | null;
}

class Sandbox {
  #shared: Shared = makeShared();
  #worker: Worker = this.#startWorker();
  #limits: wire.Initialize | null = null;
  #current: Current | null = null;
  /** The call that the worker is blocked for. */
  #call: number | null = null;
  /** True while its answer is on the way. */
  #passing = false;
  /** The calls that it awaits, with its own numbers for them. */
  #open = new Map<number, number>();
  #nextCall = 1;
  readonly reader = new FrameReader(LARGEST_REQUEST);
  #pieces = 0;
  #taken: PromiseWithResolvers<void> | null = null;
  readonly #writer = new Writer();
  readonly #rest = new RestWatch();

  async receive(frame: Frame): Promise<void> {
    const message = wire.parseHostFrame(frame);
    if (!("method" in message)) return await this.#answerCall(message);
    if (message.method === "interrupt") return await this.#interrupt();
    if (message.method === "asset") {
      return await this.#passAsset(message.params.name, message.bytes);
    }
    if (message.method === "piece") {
      this.#pieces += 1;
      return this.#tell({ op: "piece", width: message.width, bytes: message.bytes }, [
        message.bytes,
      ]);
    }
    if (message.method === "discard") return this.#tell({ op: "discard" });
    if (this.#current !== null) {
      throw new ProtocolError("A request came before the last one ended.");
    }
    this.#rest.stop();
    this.#current = { request: message, watch: null, timer: undefined, signal: 0, heard: null };
    switch (message.method) {
      case "initialize":
        return await this.#initialize(message.id, message.params);
      case "reserve":
        return this.#tell({ op: "reserve", id: message.id, rooms: message.rooms });
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
        return this.#run(this.#current, message.id, message.params);
      case "checkpoint":
      case "compiled":
        return this.#tell({ op: message.method, id: message.id });
    }
  }

  /** Waits until more of the host may be read: the pieces of a value must not pile up here. */
  async ready(): Promise<void> {
    while (this.#pieces > MAX_PIECES) {
      this.#taken = Promise.withResolvers<void>();
      const timer = setTimeout(
        () => this.end("silent", "The interpreter does not take a value."),
        PIECE_SECONDS * 1000,
      );
      await this.#taken.promise;
      clearTimeout(timer);
    }
  }

  /** Uses a buffer again: hundreds of new ones a second are more than is cleared away. */
  #regain(bytes: unknown): void {
    if (this.#pieces === 0) throw new ProtocolError("The worker took what was not sent.");
    this.#pieces -= 1;
    if (
      bytes instanceof Uint8Array && bytes.buffer instanceof ArrayBuffer &&
      bytes.length === PIECE_BYTES && bytes.buffer.byteLength === PIECE_BYTES
    ) {
      this.reader.spare.push(bytes as Part);
    }
    this.#taken?.resolve();
  }

  /**
   * Says why, then ends the process. The host takes the end of the pipe for the end of the session.
   *
   * Where nobody reads the pipe any more, saying it fails or takes for ever: neither keeps the process.
   */
  async end(reason: string, message: string): Promise<never> {
    setTimeout(() => Deno.exit(1), END_MILLISECONDS);
    try {
      this.#passHeard();
      await this.#writer.sendLast(wire.fatal(reason, message));
    } finally {
      Deno.exit(1);
    }
  }

  /** Ends the process after an error: of whoever said what is not of the protocol, or of our own. */
  async break(error: unknown): Promise<never> {
    const reason = error instanceof ProtocolError ? "protocol" : "crash";
    return await this.end(reason, error instanceof Error ? error.message : String(error));
  }

  async #initialize(id: number, params: wire.Initialize): Promise<void> {
    this.#writer.secret = params.secret;
    if (params.version !== wire.PROTOCOL_VERSION) {
      return await this.end(
        "version",
        `This end speaks version ${wire.PROTOCOL_VERSION} of the protocol, the host ${params.version}.`,
      );
    }
    this.#limits = params;
    const { assets: names, memoryBytes, outputChars, valueBytes, seed } = params;
    const shared = this.#shared;
    this.#tell({ op: "boot", id, names, memoryBytes, outputChars, valueBytes, seed, shared });
  }

  #run(current: Current, id: number, params: wire.Run): void {
    this.#shared.interrupt[0] = 0;
    this.#tell({ op: "run", id, ...params });
    current.heard = new Heard(this.#limits!.outputChars);
    current.watch = new CellWatch(this.#limits!);
    current.watch.start(performance.now());
    current.timer = setInterval(() => this.#look(), TICK_MILLISECONDS);
  }

  async #passAsset(name: string, bytes: Part): Promise<void> {
    if (name !== "pyodide.asm.wasm") return this.#tell({ op: "asset", name, bytes }, [bytes]);
    this.#tell({ op: "wasm", module: await WebAssembly.compile(bytes) });
  }

  /** Starts at once, while the host still sends what the worker will need. */
  #startWorker(): Worker {
    const entry = moduleUrl(workerSource, "text/javascript");
    const worker = new Worker(
      entry,
      { type: "module", deno: { permissions: "none" } } as WorkerOptions,
    );
    worker.addEventListener("message", (event) => {
      this.#hear((event as MessageEvent<FromWorker>).data).catch((error) => this.break(error));
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
        return this.#writer.send(wire.failure(id, String(message.kind), String(message.message)));
      }
      case "call":
        return this.#forwardCall(message);
      case "taken":
        return this.#regain(message.bytes);
      case "output":
        this.#cell();
        return this.#current!.heard!.add(String(message.text));
      case "broken":
        return await this.end("crash", String(message.message));
      default:
        throw new ProtocolError("The worker said something unknown.");
    }
  }

  #finish(id: number, text: string, parts: Part[]): void {
    const { request } = this.#take(id);
    switch (request.method) {
      case "initialize":
        return this.#writer.send(wire.result(id, { version: wire.PROTOCOL_VERSION }));
      case "run":
        return this.#writer.send(wire.result(id, wire.parseCellEnd(text), parts));
      default:
        return this.#writer.send(wire.result(id, {}, parts));
    }
  }

  /** Ends the current request; what the worker says of any other is a breach of protocol. */
  #take(id: number): Current {
    const current = this.#current;
    if (current === null || current.request.id !== id || this.#call !== null) {
      throw new ProtocolError("The worker answered what was not asked.");
    }
    clearInterval(current.timer);
    this.#current = null;
    this.#open.clear();
    this.#rest.start(workedSoFar());
    return current;
  }

  #cell(): Extract<wire.Request, { method: "run" }> {
    const request = this.#current?.request;
    if (request?.method !== "run") throw new ProtocolError("The worker spoke outside a cell.");
    return request;
  }

  // ---- Tool calls ----

  #forwardCall({ mode, ticket, tool, inline, parts }: Extract<FromWorker, { op: "call" }>): void {
    const { params } = this.#cell();
    if (this.#call !== null) {
      throw new ProtocolError("A second tool call came before an answer.");
    }
    const id = this.#nextCall++;
    if (wire.asCallMode(mode) === "aio") {
      if (this.#open.size >= MAX_OPEN_CALLS) {
        throw new ProtocolError("Too many calls at once.");
      }
      this.#open.set(id, Number(ticket));
    } else {
      this.#call = id;
      this.#current?.watch?.pause(performance.now());
    }
    const call = { cell: params.cell, tool: String(tool), inline: String(inline), mode };
    this.#writer.send(wire.call(id, call, parts));
  }

  async #answerCall({ id, reply, attachments }: wire.Answer): Promise<void> {
    if (id >= this.#nextCall) throw new ProtocolError("The host answered what was not asked.");
    const ticket = this.#open.get(id);
    if (ticket !== undefined) {
      this.#open.delete(id);
      const text = answerText(reply);
      return this.#tell({ op: "answer", ticket, text, parts: attachments }, attachments);
    }
    // Else the call was given up before its answer came.
    if (id === this.#call && !this.#passing) await this.#unblock(reply, attachments);
  }

  async #unblock(reply: Record<string, unknown>, attachments: Part[] = []): Promise<void> {
    // The watch runs again from here: taking the answer is the sandbox's own work.
    this.#current?.watch?.start(performance.now());
    const text = encoder.encode(answerText(reply));
    this.#passing = true;
    await passAnswer(this.#shared, [text, ...attachments], () => {
      this.#call = null;
      this.#passing = false;
    });
  }

  /** Tells the host what the cell has printed since the last look, however many pieces it came in. */
  #passHeard(): void {
    const text = this.#current?.heard?.take();
    if (text) this.#writer.send(wire.output(this.#cell().params.cell, text));
  }

  // ---- The clock ----

  /** Ends a process that works while nobody has asked it to: something outlived its cell. */
  checkRest(): void {
    if (this.#rest.seesTooMuch(workedSoFar())) {
      this.end("rest", "The sandbox worked between two cells, where nothing of a cell may run.");
    }
  }

  #look(): void {
    const current = this.#current;
    this.#passHeard();
    if (!current?.watch?.running) return;
    const idle = this.#open.size > 0 && Atomics.load(this.#shared.idle, 0) === 1;
    const verdict = current.watch.look(performance.now(), idle);
    if (verdict === "end") {
      this.end("cellSeconds", "The cell did not stop when it was interrupted.");
    } else if (verdict === "interrupt") {
      this.#signal(SIGALRM);
    } else if (current.signal !== 0 && resend(this.#shared, current.signal)) {
      this.#tell({ op: "cancel" });
    }
  }

  /** What the host asks for; it does not wait for a call of the cell to be answered. */
  async #interrupt(): Promise<void> {
    this.#signal(SIGINT);
    if (this.#current?.request.method === "run" && this.#call !== null && !this.#passing) {
      await this.#unblock(INTERRUPTED);
    }
  }

  /** A running cell sees the signal itself; one that waits in `await` must be woken as well. */
  #signal(number: number): void {
    if (this.#current?.request.method !== "run") return;
    this.#current.signal = number;
    send(this.#shared, number);
    this.#tell({ op: "cancel" });
  }

  #tell(message: ToWorker, move: Part[] = []): void {
    if (this.#limits === null) {
      throw new ProtocolError("The first request must be initialize.");
    }
    this.#worker.postMessage(message, move.map((part) => part.buffer));
  }
}

function moduleUrl(source: Part | string, type: string): string {
  return URL.createObjectURL(new Blob([source], { type }));
}

/** A plain value as its JSON text behind "=", so that Python reads it once; else the whole reply. */
function answerText(reply: Record<string, unknown>): string {
  const result = reply.result as { kind?: unknown; inline?: unknown } | undefined;
  return result?.kind === "json" ? `=${result.inline}` : `:${JSON.stringify(reply)}`;
}

/** How long all threads of the process have worked, in milliseconds. */
function workedSoFar(): number {
  // Deno's own types do not have it.
  const { cpuUsage } = Deno as unknown as { cpuUsage(): { user: number; system: number } };
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}

async function main(): Promise<void> {
  const parent = Deno.ppid;
  const sandbox = new Sandbox();
  setInterval(() => {
    if (Deno.ppid !== parent) Deno.exit(1);
    sandbox.checkRest();
  }, CHECK_MILLISECONDS);
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    sandbox.break(event.reason);
  });
  const { reader } = sandbox;
  for (;;) {
    const count = await Deno.stdin.read(reader.space());
    if (count === null) Deno.exit(0);
    try {
      for (const frame of reader.advance(count)) {
        sandbox.receive(frame).catch((error) => sandbox.break(error));
      }
      await sandbox.ready();
    } catch (error) {
      await sandbox.break(error);
    }
  }
}

if (import.meta.main) await main();
