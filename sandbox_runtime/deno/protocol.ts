/**
 * The wire protocol, without I/O: bytes in, messages out, and back.
 *
 * The mirror of `../rpc/messages.py`; the golden frames in `tests/golden` hold both ends to the same bytes. Knows
 * the shape of every message, and neither worker nor clock. `frames.ts` encodes the messages.
 *
 * @module
 */

import { type Frame, parseJson, type Part, ProtocolError } from "./frames.ts";

/** Changes with every change of a message, so that two incompatible ends refuse each other. */
export const PROTOCOL_VERSION = 6;

// ---- Messages of the host ----

/** Starts the interpreter. `assets` names its files; each follows in an `asset` message. */
export interface Initialize {
  version: number;
  cellSeconds: number;
  graceSeconds: number;
  memoryBytes: number;
  outputChars: number;
  /** The largest value that may leave the sandbox. */
  valueBytes: number;
  /** The seed of Python's random numbers. If empty, they continue where the saved state left them. */
  seed: string;
  /** The secret that every frame to the host must carry. Never passed to the worker. */
  secret: string;
  assets: string[];
}

/** One file of the interpreter. Files arrive in the order of their use, so that the start need not wait for all. */
export interface Asset {
  name: string;
}

/**
 * Binds a variable. The attachments hold the value, encoded as `kind`; parts that were sent into rooms before
 * follow them.
 */
export interface Assign {
  name: string;
  kind: string;
}

/** A buffer for a large part: `length` items of `width` bytes, or a stream of unknown length. */
export interface Room {
  kind: "ascii" | "text" | "bytes" | "stream";
  length: number;
  width: Width;
}

/** The bytes of one item: of a character, or 1 for bytes. */
export type Width = 1 | 2 | 4;

/** Declares the host tools and the fields of SUBMIT. */
export interface Register {
  tools: unknown[];
  outputs: unknown[] | null;
}

/** Runs one cell. */
export interface Run {
  cell: number;
  code: string;
}

/** A checked request of the host. Notifications have no id. */
export type Request =
  | { method: "initialize"; id: number; params: Initialize }
  | { method: "asset"; params: Asset; bytes: Part }
  | { method: "reserve"; id: number; rooms: Room[] }
  | { method: "piece"; width: Width; bytes: Part }
  | { method: "discard" }
  | { method: "assign"; id: number; params: Assign; attachments: Part[] }
  | { method: "register"; id: number; params: Register }
  | { method: "run"; id: number; params: Run }
  | { method: "checkpoint"; id: number }
  | { method: "compiled"; id: number }
  | { method: "interrupt" };

/** The host's answer to a tool call: a value, or the error that the tool raised. */
export interface Answer {
  id: number;
  reply: Record<string, unknown>;
  attachments: Part[];
}

/** Checks a frame of the host, and returns it as a request or as the answer to a call. */
export function parseHostFrame(frame: Frame): Request | Answer {
  const body = asRecord(frame.body, "message");
  if (body.jsonrpc !== "2.0") throw new ProtocolError("A message is not JSON-RPC 2.0.");
  const { attachments } = frame;
  if (typeof body.method !== "string") {
    return { id: asNumber(body.id, "id"), reply: pick(body, ["result", "error"]), attachments };
  }
  if (body.method === "interrupt") return { method: "interrupt" };
  const params = asRecord(body.params ?? {}, "params");
  if (body.method === "asset") {
    return {
      method: "asset",
      params: { name: asString(params.name, "name") },
      bytes: onlyOne(attachments),
    };
  }
  if (body.method === "piece") {
    return { method: "piece", width: asWidth(params.width), bytes: onlyOne(attachments) };
  }
  if (body.method === "discard") return { method: "discard" };
  const id = asNumber(body.id, "id");
  switch (body.method) {
    case "initialize":
      return { method: "initialize", id, params: parseInitialize(params) };
    case "reserve":
      return { method: "reserve", id, rooms: asArray(params.rooms, "rooms").map(parseRoom) };
    case "assign":
      return {
        method: "assign",
        id,
        params: { name: asString(params.name, "name"), kind: asString(params.kind, "kind") },
        attachments,
      };
    case "register":
      return {
        method: "register",
        id,
        params: {
          tools: asArray(params.tools, "tools"),
          outputs: params.outputs === null ? null : asArray(params.outputs, "outputs"),
        },
      };
    case "run":
      return {
        method: "run",
        id,
        params: { cell: asNumber(params.cell, "cell"), code: asString(params.code, "code") },
      };
    case "checkpoint":
    case "compiled":
      return { method: body.method, id };
    default:
      throw new ProtocolError(`The host sent ${body.method}, an unknown request.`);
  }
}

function parseInitialize(params: Record<string, unknown>): Initialize {
  return {
    version: asNumber(params.version, "version"),
    cellSeconds: asNumber(params.cellSeconds, "cellSeconds"),
    graceSeconds: asNumber(params.graceSeconds, "graceSeconds"),
    memoryBytes: asNumber(params.memoryBytes, "memoryBytes"),
    outputChars: asNumber(params.outputChars, "outputChars"),
    valueBytes: asNumber(params.valueBytes, "valueBytes"),
    seed: asString(params.seed, "seed"),
    secret: asString(params.secret, "secret"),
    assets: asArray(params.assets, "assets").map((item) => asString(item, "assets")),
  };
}

function parseRoom(item: unknown): Room {
  const room = asRecord(item, "room");
  const kind = asString(room.kind, "kind");
  if (kind !== "ascii" && kind !== "text" && kind !== "bytes" && kind !== "stream") {
    throw new ProtocolError("A room has an unknown kind.");
  }
  return { kind, length: asNumber(room.length, "length"), width: asWidth(room.width) };
}

function onlyOne([bytes, ...more]: Part[]): Part {
  if (bytes === undefined || more.length > 0) {
    throw new ProtocolError("An asset or a piece must have one attachment.");
  }
  return bytes;
}

// ---- Messages of the sandbox ----

/** The outcome of a cell, as `driver.py` reports it. */
export interface CellEnd {
  outcome: "completed" | "submitted" | "failed";
  output: string;
  errorType: string;
  message: string;
  traceback: string;
  /** The characters at the end of `output` that are the harness's own lines. */
  noted: number;
}

/** Checks the worker's report of a cell's end, which is as untrusted as the cell. */
export function parseCellEnd(text: string): CellEnd {
  const body = asRecord(parseJson(text, "cell's end"), "result");
  const outcome = asString(body.outcome, "outcome");
  if (outcome !== "completed" && outcome !== "submitted" && outcome !== "failed") {
    throw new ProtocolError("A cell ended in an unknown way.");
  }
  return {
    outcome,
    output: asString(body.output, "output"),
    errorType: asString(body.errorType, "errorType"),
    message: asString(body.message, "message"),
    traceback: asString(body.traceback, "traceback"),
    noted: asNumber(body.noted, "noted"),
  };
}

/** Builds the response to a request of the host. */
export function result(
  id: number,
  value: object,
  attachments: Part[] = [],
): Frame {
  return { body: { jsonrpc: "2.0", id, result: value }, attachments };
}

/** Builds the response to a request that failed inside the sandbox; `kind` names the exception. */
export function failure(id: number, kind: string, message: string): Frame {
  return {
    body: { jsonrpc: "2.0", id, error: { code: -32000, message, data: { type: kind } } },
    attachments: [],
  };
}

/** The way in which a cell calls the host: it blocks, it awaits the answer, or it blocks for a batch of calls. */
export type CallMode = "wait" | "aio" | "batch";

/** Checks the mode of a call. */
export function asCallMode(value: unknown): CallMode {
  if (value !== "wait" && value !== "aio" && value !== "batch") {
    throw new ProtocolError("A tool call has an unknown mode.");
  }
  return value;
}

/** The highest line that is passed on; no cell has more. */
const MAX_LINE = 10_000_000;

/** Returns the line of a cell as the worker says it; 0 for anything else than a line. */
export function asLine(value: unknown): number {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) <= MAX_LINE
    ? Number(value)
    : 0;
}

/** A tool call. Its arguments are the JSON text `inline`, or in the attachments. */
export interface Call {
  cell: number;
  tool: string;
  inline: string;
  mode: CallMode;
  /** The line of the cell that calls; 0 if it is not known. */
  line: number;
}

/** Builds the message that asks the host to run a tool. */
export function call(id: number, params: Call, attachments: Part[]): Frame {
  return { body: { jsonrpc: "2.0", id, method: "call", params }, attachments };
}

/** Builds the message with the text that a running cell has printed since the last one. */
export function output(cell: number, text: string): Frame {
  return notification("output", { cell, text });
}

/** Builds the last message of a sandbox: the limit that ended it, or what broke. */
export function fatal(reason: string, message: string): Frame {
  return notification("fatal", { reason, message });
}

function notification(method: string, params: object): Frame {
  return { body: { jsonrpc: "2.0", method, params }, attachments: [] };
}

// ---- Checks ----

function asRecord(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ProtocolError(`The ${what} is not an object.`);
  }
  return value as Record<string, unknown>;
}

function asArray(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new ProtocolError(`The field ${what} is not an array.`);
  return value;
}

function asString(value: unknown, what: string): string {
  if (typeof value !== "string") throw new ProtocolError(`The field ${what} is not a string.`);
  return value;
}

function asNumber(value: unknown, what: string): number {
  if (typeof value !== "number") throw new ProtocolError(`The field ${what} is not a number.`);
  return value;
}

function asWidth(value: unknown): Width {
  if (value !== 1 && value !== 2 && value !== 4) {
    throw new ProtocolError("A width is not 1, 2 or 4.");
  }
  return value;
}

function pick(body: Record<string, unknown>, names: string[]): Record<string, unknown> {
  return Object.fromEntries(names.filter((name) => name in body).map((name) => [name, body[name]]));
}
