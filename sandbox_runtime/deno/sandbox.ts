/**
 * The sandbox as the main thread sees it: passes the host's requests to the worker one at a time, and the
 * worker's calls and answers to the host; watches how long a cell works; ends the process when a limit cannot be
 * enforced in any other way.
 *
 * @module
 */

import { CellWatch, RestWatch } from "./cell_watch.ts";
import { UnsentOutput } from "./output_buffer.ts";
import { type Frame, FrameReader, type Part, ProtocolError } from "./frames.ts";
import { PieceFlow } from "./piece_flow.ts";
import type { FromWorker, ToWorker } from "./worker_messages.ts";
import * as wire from "./protocol.ts";
import { resend, send } from "./signals.ts";
import { makeShared, passAnswer } from "./shared_answer.ts";
import { ToolCalls } from "./tool_calls.ts";
import { Writer } from "./writer.ts";
import workerSource from "./worker.ts" with { type: "text" };

/** The host's frames are trusted; this only keeps a corrupt length from being taken for a real one. */
const LARGEST_REQUEST = 2 ** 40;
/** The interval at which a running cell is checked. */
const TICK_MILLISECONDS = 20;
/** A host that reads nothing for this long does not learn why the process ends. */
const END_MILLISECONDS = 1000;

const SIGINT = 2;
const SIGALRM = 14;

/** The answer to a call that was interrupted. */
const INTERRUPTED = { interrupted: true };

const encoder = new TextEncoder();

/** The request that the worker is working on. */
interface Current {
  request: wire.Request & { id: number };
  watch: CellWatch | null;
  timer: ReturnType<typeof setInterval> | undefined;
  /** The signal that Python has to see, or 0. */
  signal: number;
  /** What the cell has printed and the host has not received. */
  unsent: UnsentOutput | null;
}

/** One worker, and the requests and calls between it and the host. */
export class Sandbox {
  readonly #shared = makeShared();
  readonly #worker: Worker = this.#startWorker();
  #limits: wire.Initialize | null = null;
  #current: Current | null = null;
  readonly #calls = new ToolCalls();
  readonly reader = new FrameReader(LARGEST_REQUEST);
  readonly #pieces = new PieceFlow(this.reader.spare);
  readonly #writer = new Writer();
  readonly #rest = new RestWatch();

  /** Handles a frame of the host. */
  async receive(frame: Frame): Promise<void> {
    const message = wire.parseHostFrame(frame);
    if (!("method" in message)) return await this.#answerCall(message);
    if (message.method === "interrupt") return await this.#interrupt();
    if (message.method === "asset") {
      return await this.#passAsset(message.params.name, message.bytes);
    }
    if (message.method === "piece") {
      this.#pieces.sent();
      return this.#post({ op: "piece", width: message.width, bytes: message.bytes }, [
        message.bytes,
      ]);
    }
    if (message.method === "discard") return this.#post({ op: "discard" });
    if (this.#current !== null) {
      throw new ProtocolError("A request came before the last one ended.");
    }
    this.#rest.stop();
    this.#current = { request: message, watch: null, timer: undefined, signal: 0, unsent: null };
    switch (message.method) {
      case "initialize":
        return await this.#initialize(message.id, message.params);
      case "reserve":
        return this.#post({ op: "reserve", id: message.id, rooms: message.rooms });
      case "assign": {
        const { params: { name, kind }, attachments: parts } = message;
        return this.#post({ op: "assign", id: message.id, name, kind, parts }, parts);
      }
      case "register":
        return this.#post({
          op: "register",
          id: message.id,
          declared: JSON.stringify(message.params),
        });
      case "run":
        return this.#run(this.#current, message.id, message.params);
      case "checkpoint":
      case "compiled":
        return this.#post({ op: message.method, id: message.id });
    }
  }

  /** Waits until more of the host's bytes may be read: the pieces of a value must not pile up here. */
  async ready(): Promise<void> {
    await this.#pieces.ready(() => this.end("silent", "The interpreter does not take a value."));
  }

  /**
   * Reports the reason, then ends the process. The host treats the end of the pipe as the end of the session.
   *
   * If the pipe is no longer read, the report fails or never ends; the process ends all the same.
   */
  async end(reason: string, message: string): Promise<never> {
    setTimeout(() => Deno.exit(1), END_MILLISECONDS);
    try {
      this.#sendOutput();
      await this.#writer.sendLast(wire.fatal(reason, message));
    } finally {
      Deno.exit(1);
    }
  }

  /** Ends the process after an error: a breach of the protocol at either end, or a bug. */
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
    const { assets: names, memoryBytes, outputChars, valueBytes, cellSeconds, seed } = params;
    const shared = this.#shared;
    const bounds = { memoryBytes, outputChars, valueBytes, cellSeconds };
    this.#post({ op: "boot", id, names, ...bounds, seed, shared });
  }

  #run(current: Current, id: number, params: wire.Run): void {
    this.#shared.interrupt[0] = 0;
    this.#post({ op: "run", id, ...params });
    current.unsent = new UnsentOutput(this.#limits!.outputChars);
    current.watch = new CellWatch(this.#limits!);
    current.watch.start(performance.now());
    current.timer = setInterval(() => this.#tick(), TICK_MILLISECONDS);
  }

  async #passAsset(name: string, bytes: Part): Promise<void> {
    if (name !== "pyodide.asm.wasm") return this.#post({ op: "asset", name, bytes }, [bytes]);
    this.#post({ op: "wasm", module: await WebAssembly.compile(bytes) });
    bytes.buffer.transfer(0); // frees ten megabytes, which V8 would keep until it collects
  }

  /** Starts the worker at once, while the host still sends what it will need. */
  #startWorker(): Worker {
    const url = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
    const options = { type: "module", deno: { permissions: "none" } } as WorkerOptions;
    const worker = new Worker(url, options);
    worker.addEventListener("message", (event) => {
      this.#handle((event as MessageEvent<FromWorker>).data).catch((error) => this.break(error));
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.end("crash", event.message);
    });
    return worker;
  }

  async #handle(message: FromWorker): Promise<void> {
    switch (message.op) {
      case "done":
        return this.#finish(message.id, message.text, message.parts);
      case "refused": {
        const { id } = this.#complete(message.id).request;
        return this.#writer.send(wire.failure(id, String(message.kind), String(message.message)));
      }
      case "call":
        return this.#forwardCall(message);
      case "taken":
        return this.#pieces.taken(message.bytes);
      case "output":
        this.#cell();
        return this.#current!.unsent!.add(String(message.text));
      case "broken":
        return await this.end("crash", String(message.message));
      default:
        throw new ProtocolError("The worker sent an unknown message.");
    }
  }

  #finish(id: number, text: string, parts: Part[]): void {
    const { request } = this.#complete(id);
    switch (request.method) {
      case "initialize":
        return this.#writer.send(wire.result(id, { version: wire.PROTOCOL_VERSION }));
      case "run":
        return this.#writer.send(wire.result(id, wire.parseCellEnd(text), parts));
      default:
        return this.#writer.send(wire.result(id, {}, parts));
    }
  }

  /** Ends the current request. An answer of the worker to any other request is a breach of the protocol. */
  #complete(id: number): Current {
    const current = this.#current;
    if (current === null || current.request.id !== id || this.#calls.blocked) {
      throw new ProtocolError("The worker answered a request that was not made.");
    }
    clearInterval(current.timer);
    this.#current = null;
    this.#calls.forget();
    this.#rest.start(cpuMilliseconds());
    return current;
  }

  /** Returns the running cell's request. */
  #cell(): Extract<wire.Request, { method: "run" }> {
    const request = this.#current?.request;
    if (request?.method !== "run") {
      throw new ProtocolError("The worker sent output or a call outside a cell.");
    }
    return request;
  }

  // ---- Tool calls ----

  #forwardCall(message: Extract<FromWorker, { op: "call" }>): void {
    const { mode, ticket, tool, inline, parts } = message;
    const { params } = this.#cell();
    const line = wire.asLine(message.line);
    const id = this.#calls.begin(wire.asCallMode(mode), Number(ticket));
    if (this.#calls.blocked) this.#current?.watch?.pause(performance.now());
    const call = { cell: params.cell, tool: String(tool), inline: String(inline), mode, line };
    this.#writer.send(wire.call(id, call, parts));
  }

  async #answerCall({ id, reply, attachments }: wire.Answer): Promise<void> {
    const delivery = this.#calls.deliver(id);
    switch (delivery.to) {
      case "awaiting": {
        const { ticket } = delivery;
        const text = answerText(reply);
        return this.#post({ op: "answer", ticket, text, parts: attachments }, attachments);
      }
      case "blocked":
        return await this.#unblock(reply, attachments);
      case "dropped":
        return;
    }
  }

  async #unblock(reply: Record<string, unknown>, attachments: Part[] = []): Promise<void> {
    // The watch runs again from here: taking the answer is the sandbox's own work.
    this.#current?.watch?.start(performance.now());
    const text = encoder.encode(answerText(reply));
    this.#calls.beginAnswer();
    await passAnswer(this.#shared, [text, ...attachments], () => this.#calls.endAnswer());
  }

  /** Sends the host what the cell has printed since the last time, as one message. */
  #sendOutput(): void {
    const text = this.#current?.unsent?.take();
    if (text) this.#writer.send(wire.output(this.#cell().params.cell, text));
  }

  // ---- The clock ----

  /** Ends a process that works without a request: something has outlived its cell. */
  checkRest(): void {
    if (this.#rest.seesTooMuch(cpuMilliseconds())) {
      this.end("rest", "The sandbox worked between two cells, where nothing of a cell may run.");
    }
  }

  /** Checks the running cell: sends its output, and interrupts it or ends the process when its time is over. */
  #tick(): void {
    const current = this.#current;
    this.#sendOutput();
    if (!current?.watch?.running) return;
    const idle = this.#calls.awaiting && Atomics.load(this.#shared.idle, 0) === 1;
    const verdict = current.watch.look(performance.now(), idle);
    if (verdict === "end") {
      this.end("cellSeconds", "The cell did not stop when it was interrupted.");
    } else if (verdict === "interrupt") {
      this.#signal(SIGALRM);
    } else if (current.signal !== 0 && resend(this.#shared, current.signal)) {
      this.#post({ op: "cancel" });
    }
  }

  /** Interrupts the cell for the host, without waiting for the answer to a call of the cell. */
  async #interrupt(): Promise<void> {
    this.#signal(SIGINT);
    if (this.#current?.request.method === "run" && this.#calls.unanswered) {
      await this.#unblock(INTERRUPTED);
    }
  }

  /** Sends the running cell a signal. A cell that waits in `await` has to be woken as well. */
  #signal(number: number): void {
    if (this.#current?.request.method !== "run") return;
    this.#current.signal = number;
    send(this.#shared, number);
    this.#post({ op: "cancel" });
  }

  /** Sends a message to the worker; the buffers in `move` are transferred. */
  #post(message: ToWorker, move: Part[] = []): void {
    if (this.#limits === null) {
      throw new ProtocolError("The first request must be initialize.");
    }
    this.#worker.postMessage(message, move.map((part) => part.buffer));
  }
}

/**
 * Encodes a reply: a plain value as "=" and its JSON text, which Python then parses once; any other reply as ":"
 * and all of its JSON text.
 */
function answerText(reply: Record<string, unknown>): string {
  const result = reply.result as { kind?: unknown; inline?: unknown } | undefined;
  return result?.kind === "json" ? `=${result.inline}` : `:${JSON.stringify(reply)}`;
}

/** Returns the CPU time of all threads of the process, in milliseconds. */
function cpuMilliseconds(): number {
  // Deno's type declarations do not include it.
  const { cpuUsage } = Deno as unknown as { cpuUsage(): { user: number; system: number } };
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}
