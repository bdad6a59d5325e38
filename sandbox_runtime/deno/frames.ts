/**
 * Frames, without I/O: bytes in, JSON and attachments out, and back. The mirror of `../rpc/protocol.py`, which
 * says why the frames of this end carry a secret, and those of the host do not.
 *
 * @module
 */

const HEADER_BYTES = 64 * 1024;
const HEADER_END = new Uint8Array([13, 10, 13, 10]);

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const headerDecoder = new TextDecoder("latin1");

/** Raised for bytes or messages that are not of this protocol. The session that sent them is over. */
export class ProtocolError extends Error {
  override name = "ProtocolError";
}

/** Raw bytes that one thread may hand to the other. */
export type Part = Uint8Array<ArrayBuffer>;

/** One JSON-RPC message with the raw bytes that ride along. */
export interface Frame {
  body: unknown;
  attachments: Part[];
}

/**
 * Encodes a frame as the pieces to write, in order. Attachments are not copied.
 *
 * Before the secret is known, a frame goes without one, and only says why the process ends.
 */
export function encodeFrame(frame: Frame, secret: string): Uint8Array[] {
  // Deno writes to stdout line by line: a line feed at the end lets a small frame go out in one piece.
  const [before, after] = secret === "" ? ["", ""] : [`Secret: ${secret}\r\n`, `${secret}\n`];
  const body = encoder.encode(JSON.stringify(frame.body) + "\n");
  let header = `${before}Content-Length: ${body.length}\r\n`;
  if (frame.attachments.length > 0) {
    header += `Attachments: ${frame.attachments.map((item) => item.length).join(",")}\r\n`;
  }
  return [
    encoder.encode(`${header}\r\n`),
    body,
    ...frame.attachments,
    encoder.encode(after),
  ];
}

/**
 * Turns a byte stream into frames.
 *
 * The caller reads into `space()` and reports how much arrived with `advance()`. Large attachments are
 * read straight into buffers of their own, which the receiver may transfer.
 */
export class FrameReader {
  readonly #limit: number;
  /** Buffers that nobody uses any more: an attachment of just such a length takes one of them. */
  readonly spare: Part[] = [];
  #head: Part = new Uint8Array(HEADER_BYTES);
  #headLength = 0;
  #parts: Part[] = [];
  #part = 0;
  #filled = 0;

  /** `limit` is the largest frame that is accepted, in bytes. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The place for the next bytes; never empty. */
  space(): Part {
    const part = this.#parts[this.#part];
    return part === undefined ? this.#head.subarray(this.#headLength) : part.subarray(this.#filled);
  }

  /** Takes note of `count` bytes put into `space()`; returns the frames that are now complete. */
  advance(count: number): Frame[] {
    if (this.#parts.length > 0) {
      this.#filled += count;
      return this.#settle() ? [this.#finish(), ...this.#drainHead()] : [];
    }
    this.#headLength += count;
    return this.#drainHead();
  }

  #drainHead(): Frame[] {
    const frames: Frame[] = [];
    for (;;) {
      const end = findHeaderEnd(this.#head, this.#headLength);
      if (end < 0) {
        if (this.#headLength === HEADER_BYTES) {
          throw new ProtocolError(`A frame's header is longer than ${HEADER_BYTES} bytes.`);
        }
        return frames;
      }
      this.#parts = parseHeader(this.#head.subarray(0, end), this.#limit).map((size) =>
        this.#buffer(size)
      );
      this.#consume(end + HEADER_END.length);
      while (this.#part < this.#parts.length && this.#headLength > 0) {
        const part = this.#parts[this.#part]!;
        const taken = Math.min(part.length - this.#filled, this.#headLength);
        part.set(this.#head.subarray(0, taken), this.#filled);
        this.#filled += taken;
        this.#consume(taken);
        if (!this.#settle() && this.#headLength === 0) return frames;
      }
      if (!this.#settle()) return frames;
      frames.push(this.#finish());
    }
  }

  #buffer(size: number): Part {
    return this.spare.at(-1)?.length === size ? this.spare.pop()! : new Uint8Array(size);
  }

  /** Steps over the parts that are full; true when all are. */
  #settle(): boolean {
    while (this.#part < this.#parts.length && this.#filled === this.#parts[this.#part]!.length) {
      this.#part += 1;
      this.#filled = 0;
    }
    return this.#part === this.#parts.length;
  }

  #consume(count: number): void {
    this.#head.copyWithin(0, count, this.#headLength);
    this.#headLength -= count;
  }

  #finish(): Frame {
    const [body, ...attachments] = this.#parts;
    this.#parts = [];
    this.#part = 0;
    return { body: parseJson(body!, "frame's body"), attachments };
  }
}

/** Puts pieces together. */
export function concat(pieces: Uint8Array[]): Part {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** What JSON text says; from bytes, if they are UTF-8. */
export function parseJson(text: Uint8Array | string, what: string): unknown {
  try {
    return JSON.parse(typeof text === "string" ? text : decoder.decode(text));
  } catch (error) {
    throw new ProtocolError(`A ${what} is not JSON.`, { cause: error });
  }
}

function findHeaderEnd(bytes: Uint8Array, length: number): number {
  for (let at = bytes.indexOf(13); at >= 0 && at + 3 < length; at = bytes.indexOf(13, at + 1)) {
    if (HEADER_END.every((byte, offset) => bytes[at + offset] === byte)) return at;
  }
  return -1;
}

/** Returns the sizes that a header announces: the body's, then each attachment's. */
function parseHeader(bytes: Uint8Array, limit: number): number[] {
  const fields = new Map<string, string>();
  for (const line of headerDecoder.decode(bytes).split("\r\n")) {
    const colon = line.indexOf(":");
    fields.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  const attachments = fields.get("attachments");
  const texts = [
    fields.get("content-length") ?? "",
    ...(attachments ? attachments.split(",") : []),
  ];
  if (!texts.every((text) => /^\d{1,15}$/.test(text))) {
    throw new ProtocolError("A frame's header is malformed.");
  }
  const sizes = texts.map(Number);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total > limit) {
    throw new ProtocolError(`A frame of ${total} bytes is over the limit of ${limit} bytes.`);
  }
  return sizes;
}
