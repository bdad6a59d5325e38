/**
 * The wire protocol, without I/O: frames in, messages out, and back.
 *
 * The mirror of `../rpc/messages.py` and `../rpc/sandbox_messages.py`; the golden frames in `tests/golden` hold both ends
 * to the same bytes. Knows the shape of every message, and neither worker nor clock. `frames.ts` encodes the messages.
 *
 * @module
 */

import { type Frame, type Part, ProtocolError } from "./frames.ts";
import type { Head } from "./writer.ts";

/** Changes with every change of a message, so that two incompatible ends refuse each other. */
export const PROTOCOL_VERSION = 9;

/**
 * The kinds of the host's frames. The `arg` of `interrupted` is the number of signals that have been sent for it since the
 * last `settle`; 0 if the frame stands for the signal.
 */
export const FROM_HOST = { run: 1, answer: 2, interrupted: 3, request: 4 };

/** The kinds of the sandbox's frames. */
export const FROM_SANDBOX = { call: 1, end: 2, refused: 3, output: 4 };

/** The exit code of the process for each reason why it ends itself. Code in the worker cannot make it exit. */
export const EXIT_CODES: Record<string, number> = {
  protocol: 70,
  crash: 71,
  cellSeconds: 72,
  rest: 73,
  version: 74,
};

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

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
  /** True if the main thread reads all frames: the host's interrupts are frames too. */
  relayed: boolean;
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

/** A checked request of the host. Notifications have the id 0, and no answer. */
export type Request =
  | { method: "initialize"; id: number; params: Initialize }
  | { method: "asset"; params: Asset; bytes: Part }
  | { method: "reserve"; id: number; rooms: Room[] }
  | { method: "piece"; width: Width; bytes: Part }
  | { method: "discard" }
  | { method: "assign"; id: number; params: Assign; attachments: Part[] }
  | { method: "register"; id: number; params: Register }
  | { method: "run"; id: number; params: Run }
  | { method: "settle"; id: number; interrupts: number }
  | { method: "checkpoint"; id: number }
  | { method: "compiled"; id: number }
  | { method: "interrupt" };

/** Returns whether a frame answers a call, with a value, an error, or the news that the host has interrupted it. */
export function isAnswer({ kind }: Frame): boolean {
  return kind === FROM_HOST.answer || kind === FROM_HOST.interrupted;
}

/** Checks a frame of the host that is a request. */
export function parseRequest(frame: Frame): Request {
  const { kind, id, attachments } = frame;
  if (kind === FROM_HOST.run) {
    return { method: "run", id, params: { cell: frame.arg, code: decodeText(frame.body, "code") } };
  }
  if (kind !== FROM_HOST.request) throw new ProtocolError("The host sent an unknown frame.");
  const body = asRecord(parseJson(frame.body, "request"), "request");
  const params = asRecord(body.params ?? {}, "params");
  switch (body.method) {
    case "initialize":
      return { method: "initialize", id, params: parseInitialize(params) };
    case "asset": {
      const bytes = onlyOne(attachments);
      return { method: "asset", params: { name: asString(params.name, "name") }, bytes };
    }
    case "reserve":
      return { method: "reserve", id, rooms: asArray(params.rooms, "rooms").map(parseRoom) };
    case "piece":
      return { method: "piece", width: asWidth(params.width), bytes: onlyOne(attachments) };
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
    case "settle":
      return { method: "settle", id, interrupts: asNumber(params.interrupts, "interrupts") };
    case "checkpoint":
    case "compiled":
      return { method: body.method, id };
    case "discard":
    case "interrupt":
      return { method: body.method };
    default:
      throw new ProtocolError(`The host sent ${String(body.method)}, an unknown request.`);
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
    relayed: asBoolean(params.relayed, "relayed"),
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

// ---- Messages of the sandbox: the header and the body of each ----

/** A frame to send: its header, and its body as text. */
export type Message = [head: Head, text: string];

/** The ways in which a cell calls the host: it blocks, it awaits the answer, or it blocks for a batch of calls. */
const MODES = ["wait", "aio", "batch"];

/** One of these ways. */
export type CallMode = "wait" | "aio" | "batch";

/** The highest line that is passed on; no cell has more. */
const MAX_LINE = 10_000_000;

/** A call of a cell: the tool, its arguments and its mode. */
export interface Call {
  mode: CallMode;
  tool: string;
  /** The arguments as JSON text, if they are not in the attachments. */
  inline: string;
  /** The line of the cell that calls; 0 if it is not known. */
  line: number;
}

/** The bits of a call's number that count the calls. Those above them say how many interrupts the cell has seen. */
const COUNTING_BITS = 24;

/** More interrupts than this are not counted: the sign bit of the number stays clear. */
const MAX_SEEN = 127;

/** The number of a call, which is not 0: the interrupts that its cell has seen, and a count from 1. */
export function callNumber(seen: number, count: number): number {
  return Math.min(seen, MAX_SEEN) << COUNTING_BITS | 1 + (count - 1) % (2 ** COUNTING_BITS - 1);
}

/** The call of a tool, by the cell that `request` runs. */
export function callMessage(id: number, request: number, call: Call): Message {
  const mode = MODES.indexOf(call.mode);
  if (mode < 0) throw new Error("A tool call has an unknown mode.");
  if (call.tool.includes("\0")) throw new Error("No tool has such a name.");
  const known = Number.isInteger(call.line) && call.line > 0 && call.line <= MAX_LINE;
  const text = `${mode}${call.tool}\0${known ? call.line : 0}\0${call.inline}`;
  return [{ kind: FROM_SANDBOX.call, id, arg: request }, text];
}

const ZERO = 48; // the digit
const DELETE = 127;

/**
 * Returns whether these bytes are the body of a blocking call, in ASCII: the mode, the name of the tool, the line and
 * the arguments. The host, which checks the rest, would take anything else for a breach of the protocol.
 */
export function isBlockingCall(body: Uint8Array): boolean {
  const [mode, name] = [body[0], body.indexOf(0)];
  const line = body.indexOf(0, name + 1);
  if (mode !== ZERO && mode !== ZERO + MODES.indexOf("batch")) return false;
  if (name < 2 || line < 0 || line - name < 2 || line - name > 9) return false;
  for (let at = name + 1; at < line; at++) {
    if (body[at]! < ZERO || body[at]! >= ZERO + 10) return false;
  }
  return isPrintable(body, 0, name) && isPrintable(body, line + 1, body.length);
}

/** Returns whether these bytes are printable ASCII. A loop, which takes a third of the time of `every`. */
function isPrintable(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    if (bytes[at]! < 32 || bytes[at]! >= DELETE) return false;
  }
  return true;
}

/** The response to a request; `text` is JSON. */
export function endMessage(id: number, text = "{}"): Message {
  return [{ kind: FROM_SANDBOX.end, id, arg: 0 }, text];
}

/** The response to a request that failed inside the sandbox; `type` names the exception. */
export function refusalMessage(id: number, type: string, message: string): Message {
  return [{ kind: FROM_SANDBOX.refused, id, arg: 0 }, JSON.stringify({ type, message })];
}

/** A piece of output of the cell that this request runs. */
export function outputMessage(request: number, text: string): Message {
  return [{ kind: FROM_SANDBOX.output, id: 0, arg: request }, text];
}

// ---- Fields ----

function parseJson(bytes: Part, what: string): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch (error) {
    throw new ProtocolError(`The ${what} is not JSON.`, { cause: error });
  }
}

function decodeText(bytes: Part, what: string): string {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    throw new ProtocolError(`The ${what} is not UTF-8.`, { cause: error });
  }
}

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

function asBoolean(value: unknown, what: string): boolean {
  if (typeof value !== "boolean") throw new ProtocolError(`The field ${what} is not a boolean.`);
  return value;
}

function asWidth(value: unknown): Width {
  if (value !== 1 && value !== 2 && value !== 4) {
    throw new ProtocolError("A width is not 1, 2 or 4.");
  }
  return value;
}
