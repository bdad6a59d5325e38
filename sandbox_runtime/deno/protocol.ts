/**
 * The wire protocol, without I/O: bytes in, messages out, and back.
 *
 * The mirror of `../rpc/messages.py`; the golden frames in `tests/golden` hold both ends to the same bytes.
 * Knows the shape of every message. Knows no worker and no clock; `frames.ts` makes bytes of it.
 *
 * @module
 */

import { type Frame, parseJson, type Part, ProtocolError } from "./frames.ts";

/** Changes with every change of a message, so that two ends that differ refuse each other. */
export const PROTOCOL_VERSION = 5;

// ---- What the host asks ---------------------------------------------------------------------------

/** Starts the interpreter. `assets` names the files it consists of; each follows in an `asset`. */
export interface Initialize {
  version: number;
  cellSeconds: number;
  graceSeconds: number;
  memoryBytes: number;
  outputChars: number;
  /** The largest value that may leave the sandbox. */
  valueBytes: number;
  /** Where Python's random numbers begin; empty: where the saved state left them. */
  seed: string;
  /** What every frame to the host has to carry. Never passed on to the worker. */
  secret: string;
  assets: string[];
}

/** One file of the interpreter. They come in the order of their use, so that work begins at once. */
export interface Asset {
  name: string;
}

/**
 * Binds a variable; the attachments hold the value, `kind` says how. Parts that were sent before into
 * rooms come after them.
 */
export interface Assign {
  name: string;
  kind: string;
}

/** The place of a large part: so many items of so many bytes, or a stream of unknown length. */
export interface Room {
  kind: "ascii" | "text" | "bytes" | "stream";
  length: number;
  width: Width;
}

/** Bytes of one item: a character, or a byte. */
export type Width = 1 | 2 | 4;

/** Declares the host tools and the fields that SUBMIT takes. */
export interface Register {
  tools: unknown[];
  outputs: unknown[] | null;
}

/** Runs one cell. */
export interface Run {
  cell: number;
  code: string;
}

/** A request of the host, checked. Notifications have no id. */
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

/** The host's answer to a tool call of ours: a value, or the error that the tool raised. */
export interface Answer {
  id: number;
  reply: Record<string, unknown>;
  attachments: Part[];
}

/** Checks a frame of the host; a request comes back as `Request`, the answer to a call as `Answer`. */
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
      throw new ProtocolError(`The host asks for ${body.method}, which is unknown here.`);
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
    throw new ProtocolError("A room is of no known kind.");
  }
  return { kind, length: asNumber(room.length, "length"), width: asWidth(room.width) };
}

function onlyOne([bytes, ...more]: Part[]): Part {
  if (bytes === undefined || more.length > 0) {
    throw new ProtocolError("An asset or a piece comes with one attachment.");
  }
  return bytes;
}

// ---- What the sandbox says ------------------------------------------------------------------------

/** How a cell ended, as `driver.py` tells it. */
export interface CellEnd {
  outcome: "completed" | "submitted" | "failed";
  output: string;
  errorType: string;
  message: string;
  traceback: string;
}

/** Checks what the worker says of a cell's end; it is as untrusted as the cell. */
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
  };
}

/** The response to a request of the host. */
export function result(
  id: number,
  value: object,
  attachments: Part[] = [],
): Frame {
  return { body: { jsonrpc: "2.0", id, result: value }, attachments };
}

/** The response to a request that failed inside the sandbox; `kind` names the exception. */
export function failure(id: number, kind: string, message: string): Frame {
  return {
    body: { jsonrpc: "2.0", id, error: { code: -32000, message, data: { type: kind } } },
    attachments: [],
  };
}

/** How a cell calls the host: it blocks, it goes on and awaits, or it blocks for many calls at once. */
export type CallMode = "wait" | "aio" | "batch";

/** Checks what the worker says of a call. */
export function asCallMode(value: unknown): CallMode {
  if (value !== "wait" && value !== "aio" && value !== "batch") {
    throw new ProtocolError("A tool call is of no known mode.");
  }
  return value;
}

/** A tool call. Its arguments are `inline` as JSON text, or else in the attachments. */
export interface Call {
  cell: number;
  tool: string;
  inline: string;
  mode: CallMode;
}

/** Asks the host to run a tool. */
export function call(id: number, params: Call, attachments: Part[]): Frame {
  return { body: { jsonrpc: "2.0", id, method: "call", params }, attachments };
}

/** Text that a running cell has printed so far and not yet reported. */
export function output(cell: number, text: string): Frame {
  return notification("output", { cell, text });
}

/** The last thing that a dying sandbox says: which limit ended it, or what broke. */
export function fatal(reason: string, message: string): Frame {
  return notification("fatal", { reason, message });
}

function notification(method: string, params: object): Frame {
  return { body: { jsonrpc: "2.0", method, params }, attachments: [] };
}

// ---- Checks ---------------------------------------------------------------------------------------

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
  if (value !== 1 && value !== 2 && value !== 4) throw new ProtocolError("A width is wrong.");
  return value;
}

function pick(body: Record<string, unknown>, names: string[]): Record<string, unknown> {
  return Object.fromEntries(names.filter((name) => name in body).map((name) => [name, body[name]]));
}
