/**
 * The codec of frames, without I/O: bytes to JSON and attachments, and back. The mirror of `../rpc/protocol.py`,
 * which explains why frames of this end carry a secret and the host's do not.
 *
 * @module
 */

const HEADER_BYTES = 64 * 1024;
const HEADER_END = new Uint8Array([13, 10, 13, 10]);

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const headerDecoder = new TextDecoder("latin1");

/** A breach of the protocol by either end. It ends the session. */
export class ProtocolError extends Error {
  override name = "ProtocolError";
}

/** Raw bytes that can be transferred between threads. */
export type Part = Uint8Array<ArrayBuffer>;

/** One JSON-RPC message with its attachments of raw bytes. */
export interface Frame {
  body: unknown;
  attachments: Part[];
}

/**
 * Encodes a frame as the pieces to write, in order. Attachments are not copied.
 *
 * Before the secret is known, a frame has none; such a frame only reports why the process ends.
 */
export function encodeFrame(frame: Frame, secret: string): Uint8Array[] {
  // Deno buffers stdout by lines: with a line feed at its end, a small frame is written at once.
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
 * The caller reads into `space()` and reports with `advance()` how many bytes arrived. Large attachments are read
 * directly into buffers of their own, which the receiver may transfer.
 */
export class FrameReader {
  readonly #limit: number;
  /** Buffers for reuse. An attachment of exactly the length of the last one is read into it. */
  readonly spare: Part[] = [];
  #head: Part = new Uint8Array(HEADER_BYTES);
  #headLength = 0;
  #parts: Part[] = [];
  #part = 0;
  #filled = 0;

  /** Accepts frames of at most `limit` bytes. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Returns the buffer for the next bytes; never empty. */
  space(): Part {
    const part = this.#parts[this.#part];
    return part === undefined ? this.#head.subarray(this.#headLength) : part.subarray(this.#filled);
  }

  /** Processes `count` bytes that were read into `space()`. Returns the frames that are now complete. */
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
        const count = Math.min(part.length - this.#filled, this.#headLength);
        part.set(this.#head.subarray(0, count), this.#filled);
        this.#filled += count;
        this.#consume(count);
        if (!this.#settle() && this.#headLength === 0) return frames;
      }
      if (!this.#settle()) return frames;
      frames.push(this.#finish());
    }
  }

  #buffer(size: number): Part {
    return this.spare.at(-1)?.length === size ? this.spare.pop()! : new Uint8Array(size);
  }

  /** Skips the parts that are full. Returns whether all are. */
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

/** Concatenates pieces. */
export function concat(pieces: Uint8Array[]): Part {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** Parses JSON: a string, or bytes of UTF-8. */
export function parseJson(text: Uint8Array | string, what: string): unknown {
  try {
    return JSON.parse(typeof text === "string" ? text : decoder.decode(text));
  } catch (error) {
    throw new ProtocolError(`The ${what} is not JSON.`, { cause: error });
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
