/**
 * The sandbox as the main thread sees it: starts the worker, and then only watches how long a cell works, passes the
 * host's interrupts on, and ends the process when a limit cannot be enforced in any other way.
 *
 * It never writes to stdout, which is the cell's voice once one has run. Why the process ends is its exit code, and
 * the sentence about it goes to stderr.
 *
 * @module
 */

import { ClockReader } from "./cell_clock.ts";
import { CellWatch, RestWatch } from "./cell_watch.ts";
import { type Frame, type Part, ProtocolError } from "./frames.ts";
import { HostReader } from "./host_reader.ts";
import * as wire from "./protocol.ts";
import { HostSignals, resendSignal, sendSignal, SIGALRM } from "./signals.ts";
import { type FromWorker, makeShared, type ToWorker } from "./worker_messages.ts";
import workerSource from "./worker.ts" with { type: "text" };

/** The interval at which a running cell is checked. */
const TICK_MILLISECONDS = 20;
/** The ticks without a cell after which the clock sleeps until one begins. */
const TICKS_AWAKE = 25;

/** The signal by which the host interrupts a cell. Windows has none that fits. */
const HOST_SIGNAL = "SIGUSR2";

const encoder = new TextEncoder();

/** One worker, and everything that watches it. */
export class Sandbox {
  readonly #shared = makeShared();
  readonly #clock = new ClockReader(this.#shared);
  readonly #signals = new HostSignals(this.#shared);
  readonly #rest = new RestWatch();
  readonly #reader = new HostReader(Deno.stdin, {
    shared: this.#shared,
    postAnswer: ({ kind, id, arg, body, attachments: parts }) => {
      const interrupts = kind === wire.FROM_HOST.interrupted ? arg : null;
      this.#post({ op: "answer", id, body, parts, interrupts }, [body, ...parts]);
    },
    closed: () => Deno.exit(0),
  });
  readonly #worker: Worker = this.#startWorker();

  /** Starts the interpreter, with the files that the host sends. Then the worker reads what the host sends. */
  async start(): Promise<void> {
    const request = wire.parseRequest(this.#reader.nextBlocking());
    if (request.method !== "initialize") {
      throw new ProtocolError("The first request must be initialize.");
    }
    const { id, params } = request;
    if (params.version !== wire.PROTOCOL_VERSION) {
      return this.end(
        "version",
        `This end speaks version ${wire.PROTOCOL_VERSION} of the protocol, the host ${params.version}.`,
      );
    }
    const { assets: names, memoryBytes, outputChars, valueBytes, cellSeconds, seed, relayed } =
      params;
    const bounds = { memoryBytes, outputChars, valueBytes, cellSeconds };
    this.#post({ op: "boot", id, names, ...bounds, seed, relayed, shared: this.#shared });
    for (let count = 0; count < names.length; count++) {
      const asset = wire.parseRequest(this.#reader.nextBlocking());
      if (asset.method !== "asset") throw new ProtocolError("A file of the start is missing.");
      this.#passAsset(asset.params.name, asset.bytes).catch((error) => this.break(error));
    }
    this.#watchCells(new CellWatch(params));
    if (relayed) return await this.#relay();
    Deno.addSignalListener(HOST_SIGNAL, () => this.#interrupt());
  }

  /** Ends the process. stderr may be closed, or full. */
  end(reason: string, message: string): never {
    try {
      Deno.stderr.writeSync(encoder.encode(`\n${message.replaceAll(/\s+/g, " ")}\n`));
    } finally {
      Deno.exit(wire.EXIT_CODES[reason]);
    }
  }

  /** Ends the process after an error: a breach of the protocol by the host, or a bug. */
  break(error: unknown): never {
    const reason = error instanceof ProtocolError ? "protocol" : "crash";
    return this.end(reason, error instanceof Error ? error.message : String(error));
  }

  /** Ends a process that works without a request: something has outlived its cell. */
  checkRest(): void {
    const { count, busy } = this.#clock.requests;
    if (this.#rest.seesTooMuch(count, busy, cpuMilliseconds())) {
      this.end("rest", "The sandbox worked between two cells, where nothing of a cell may run.");
    }
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
      case "read":
        return await this.#reader.readOwed();
      case "release":
        return await this.#reader.release();
      case "closed":
        return Deno.exit(0);
      case "broken":
        return this.end("crash", String(message.message));
      default:
        throw new ProtocolError("The worker sent an unknown message.");
    }
  }

  async #relay(): Promise<never> {
    const isInterrupt = (frame: Frame): boolean =>
      !wire.isAnswer(frame) && wire.parseRequest(frame).method === "interrupt";
    return await this.#reader.relay(isInterrupt, () => this.#interrupt());
  }

  // ---- The clock ----

  /** Checks the running cell at intervals. Sleeps while there is none. */
  #watchCells(watch: CellWatch): void {
    let quiet = 0;
    const timer = setInterval(() => {
      quiet = this.#clock.cell === 0 ? quiet + 1 : 0;
      if (quiet < TICKS_AWAKE) return this.#tick(watch);
      clearInterval(timer);
      this.#clock.untilCell().then(() => this.#watchCells(watch));
    }, TICK_MILLISECONDS);
  }

  /** Interrupts the cell, or ends the process, when its time is over. */
  #tick(watch: CellWatch): void {
    const sight = this.#clock.look();
    if (sight === null) return;
    const verdict = watch.look(sight, cpuMilliseconds());
    if (verdict === "end") {
      this.end("cellSeconds", "The cell did not stop when it was interrupted.");
    } else if (verdict === "interrupt") {
      sendSignal(this.#shared, SIGALRM, sight.cell);
      this.#post({ op: "cancel" });
    } else if (resendSignal(this.#shared)) {
      this.#post({ op: "cancel" });
    }
  }

  /** Interrupts the running cell for the host. A cell that waits in `await` has to be woken as well. */
  #interrupt(): void {
    this.#signals.handle(() => this.#clock.cell);
    this.#post({ op: "cancel" });
  }

  /** Sends a message to the worker; the buffers in `move` are transferred. */
  #post(message: ToWorker, move: Part[] = []): void {
    this.#worker.postMessage(message, move.map((part) => part.buffer));
  }
}

/** Returns the CPU time of all threads of the process, in milliseconds. */
function cpuMilliseconds(): number {
  // Deno's type declarations do not include it.
  const { cpuUsage } = Deno as unknown as { cpuUsage(): { user: number; system: number } };
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}
