/**
 * Buffers in Python's memory for the large parts of a value, which are filled piece by piece as they arrive: no data
 * is held twice, and a value that does not fit is refused before it is sent.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import type { Room, Width } from "./protocol.ts";

/** The parts of Pyodide that this uses: CPython's functions for objects that are filled later. */
export interface Roomy {
  HEAPU8: Part;
  PyProxy_getPtr(list: object): number;
  _PyUnicode_New(length: number, widest: number): number;
  _PyUnicode_Data(text: number): number;
  _PyBytes_FromStringAndSize(from: number, length: number): number;
  _PyBytes_AsString(bytes: number): number;
  _PyList_New(length: number): number;
  _PyList_Append(list: number, item: number): number;
  _PyErr_Clear(): void;
  _Py_DecRef(item: number): void;
  _sbrk(change: number): number;
}

/** The largest object of a 32-bit interpreter. */
const LARGEST_BYTES = 2 ** 31 - 1;

const WIDEST = { 1: 0xff, 2: 0xffff, 4: 0x10ffff };

/** A room that is being filled. For a stream, `at` is the list of its pieces. */
interface Open extends Room {
  at: number;
  filled: number;
}

/** The rooms for one value. */
export class Rooms {
  #module: Roomy;
  #memoryBytes: number;
  #rooms: Open[] = [];
  #refusal: string | null = null;

  constructor(module: Roomy, memoryBytes: number) {
    this.#module = module;
    this.#memoryBytes = memoryBytes;
  }

  /** The reason why there is no room for the value; null if there is. */
  get refusal(): string | null {
    return this.#refusal;
  }

  /** The bytes of memory that were never used. */
  get left(): number {
    return Math.max(0, this.#memoryBytes - (this.#module._sbrk(0) >>> 0));
  }

  /** Allocates rooms as Python objects, and appends them to the Python list `list`. */
  reserve(rooms: Room[], list: object): void {
    if (this.#refusal !== null) return;
    const target = this.#module.PyProxy_getPtr(list);
    for (const room of rooms) {
      const item = this.#create(room);
      if (item === 0 || this.#append(target, item) !== 0) {
        this.#refuse(rooms.reduce((sum, { length, width }) => sum + length * width, 0));
        return;
      }
      if (room.length > 0 || room.kind === "stream") {
        this.#rooms.push({ ...room, at: this.#place(room, item), filled: 0 });
      }
    }
  }

  /** Writes the next piece into its room. Drops it if the value was refused. */
  fill(bytes: Part, width: Width): void {
    if (this.#refusal !== null) return;
    const room = this.#rooms[0];
    if (room === undefined) throw new Error("a piece arrived for which there is no room");
    if (room.kind === "stream") return this.#extend(room, bytes);
    const count = bytes.length / width;
    if (width > room.width || room.filled + count > room.length) {
      throw new Error("a piece is larger than its room");
    }
    const { buffer } = this.#module.HEAPU8;
    const at = room.at + room.filled * room.width;
    viewOf(room.width, buffer, at, count).set(viewOf(width, bytes.buffer, bytes.byteOffset, count));
    room.filled += count;
    if (room.filled === room.length) this.#rooms.shift();
  }

  /** Ends a stream; other rooms may follow. */
  endStream(): void {
    if (this.#rooms[0]?.kind === "stream") this.#rooms.shift();
  }

  /** Forgets the rooms. Returns whether all of them are full. */
  leave(): boolean {
    this.endStream();
    const complete = this.#rooms.length === 0;
    this.#rooms = [];
    this.#refusal = null;
    return complete;
  }

  #create({ kind, length, width }: Room): number {
    const module = this.#module;
    if (kind === "stream") return module._PyList_New(0);
    if (length * width > LARGEST_BYTES) return 0;
    if (kind === "bytes") return module._PyBytes_FromStringAndSize(0, length) >>> 0;
    return module._PyUnicode_New(length, kind === "ascii" ? 0x7f : WIDEST[width]) >>> 0;
  }

  #place({ kind }: Room, item: number): number {
    if (kind === "stream") return item;
    if (kind === "bytes") return this.#module._PyBytes_AsString(item) >>> 0;
    return this.#module._PyUnicode_Data(item) >>> 0;
  }

  #extend(room: Open, bytes: Part): void {
    const module = this.#module;
    room.filled += bytes.length;
    const item = module._PyBytes_FromStringAndSize(0, bytes.length) >>> 0;
    if (item === 0) return this.#refuse(room.filled);
    module.HEAPU8.set(bytes, module._PyBytes_AsString(item) >>> 0);
    if (this.#append(room.at, item) !== 0) this.#refuse(room.filled);
  }

  /** Appends an item to a list, which then holds the only reference to it. */
  #append(list: number, item: number): number {
    const failed = this.#module._PyList_Append(list, item);
    this.#module._Py_DecRef(item);
    return failed;
  }

  #refuse(bytes: number): void {
    this.#module._PyErr_Clear();
    const needed = `${bytes.toLocaleString("en")} bytes are needed`;
    // The free memory is fragmented, or the system refuses to give it.
    const how = bytes <= this.left ? " in one piece" : "";
    this.#refusal = `${needed}${how}, ${this.describeLeft()}`;
  }

  /** Describes the free memory, for an error message. */
  describeLeft(): string {
    const [left, all] = [this.left, this.#memoryBytes].map((n) => n.toLocaleString("en"));
    return `and ${left} are left of the ${all} of Limits.memory_bytes`;
  }
}

function viewOf(width: Width, buffer: ArrayBuffer, at: number, count: number) {
  if (width === 1) return new Uint8Array(buffer, at, count);
  return width === 2 ? new Uint16Array(buffer, at, count) : new Uint32Array(buffer, at, count);
}
