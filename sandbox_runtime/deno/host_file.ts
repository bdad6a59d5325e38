/**
 * A file of Python's that is no file: what is written to it is a blocking call of the host, and what is then read from
 * it is the answer. Their bytes go from Python's memory to the pipe and back, without a string of JavaScript: a small
 * call takes half of the time.
 *
 * Any code of a cell can use it, and can say no more than a call of `callHost` can: the header of the frame is made
 * here, and bytes that are not the body of a call are refused like a closed file's.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import type { HostCalls } from "./host_calls.ts";

/** The descriptor; no other file gets so high a number. `pyodide_host.py` has the same. */
export const HOST_FILE = 1000;

/** The longest call, in bytes. Longer ones are made by `callHost`. */
export const MAX_CALL_BYTES = 16 * 1024;

/** WASI's numbers of these errors. */
const EBADF = 8;
const EFAULT = 21;
const EINTR = 27;

/** The length of an `iovec`: an address and a length. */
const IOVEC_BYTES = 8;

/** WASI's functions to read and to write: a descriptor, the address and the number of `iovec`s, and where the count goes. */
type FileFunction = (fd: number, iovecs: number, count: number, counted: number) => number;

/** The functions of WASI that a program imports. */
export interface FileImports {
  fd_write: FileFunction;
  fd_read: FileFunction;
}

export class HostFile {
  readonly #calls: HostCalls;
  readonly #interrupt: Uint8Array;
  #memory: { readonly HEAPU8: Part } | null = null;
  /** The part of the last answer that has not been read. */
  #answer: Part | null = null;
  /** True if Python has been told of the signal that came during the call. */
  #told = true;

  /** `interrupt` is where a signal for Python arrives. */
  constructor(calls: HostCalls, interrupt: Uint8Array) {
    this.#calls = calls;
    this.#interrupt = interrupt;
  }

  /** Opens the file: from here on it works in this memory. */
  open(memory: { readonly HEAPU8: Part }): void {
    this.#memory = memory;
  }

  /** Replaces the two functions by ones that know the file. */
  addTo(imports: FileImports): void {
    const { fd_write: write, fd_read: read } = imports;
    imports.fd_write = (fd, iovecs, count, counted) =>
      fd === HOST_FILE ? this.#write(iovecs, count, counted) : write(fd, iovecs, count, counted);
    imports.fd_read = (fd, iovecs, count, counted) =>
      fd === HOST_FILE ? this.#read(iovecs, count, counted) : read(fd, iovecs, count, counted);
  }

  /** Makes a call, and waits. Returns the length of the answer as the count of bytes. */
  #write(iovecs: number, count: number, counted: number): number {
    const place = this.#locate(iovecs, count, counted);
    if (typeof place === "number") return place;
    if (place.bytes.length > MAX_CALL_BYTES) return EBADF;
    const answer = this.#calls.callQuickly(place.bytes);
    if (answer === null) return EBADF;
    this.#answer = answer;
    this.#told = false;
    place.setCount(answer.length);
    return 0;
  }

  /** Reads the answer. Before that, lets Python see a signal: the code that follows may be too short to look for one. */
  #read(iovecs: number, count: number, counted: number): number {
    const place = this.#locate(iovecs, count, counted);
    if (typeof place === "number") return place;
    if (this.#answer === null) return EBADF;
    if (!this.#told && this.#interrupt[0] !== 0) {
      this.#told = true;
      return EINTR;
    }
    const taken = Math.min(place.bytes.length, this.#answer.length);
    place.bytes.set(this.#answer.subarray(0, taken));
    this.#answer = taken < this.#answer.length ? this.#answer.subarray(taken) : null;
    place.setCount(taken);
    return 0;
  }

  /** Returns the bytes that the only `iovec` means, or the number of an error. */
  #locate(
    iovecs: number,
    count: number,
    counted: number,
  ): { bytes: Part; setCount: (count: number) => void } | number {
    if (this.#memory === null || count !== 1) return EBADF;
    const heap = this.#memory.HEAPU8;
    const most = heap.length - IOVEC_BYTES;
    if (iovecs >>> 0 > most || counted >>> 0 > most) return EFAULT;
    const view = new DataView(heap.buffer);
    const at = view.getUint32(iovecs >>> 0, true);
    const length = view.getUint32((iovecs >>> 0) + 4, true);
    if (at + length > heap.length) return EFAULT;
    const setCount = (number: number): void => view.setUint32(counted >>> 0, number, true);
    return { bytes: heap.subarray(at, at + length), setCount };
  }
}
