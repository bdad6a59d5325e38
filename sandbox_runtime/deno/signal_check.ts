/**
 * The check for a signal that Python makes at every fiftieth jump or call, as a function of WebAssembly.
 *
 * Pyodide's own is JavaScript. A cell runs on a stack of its own, so that it can wait for promises, and to leave it for
 * JavaScript's stack takes two microseconds: a quarter of a loop's time, and half of a call's.
 *
 * @module
 */

/** The name of Pyodide's import that this replaces. */
export const CHECK = "_Py_CheckEmscriptenSignals_Helper";

/**
 * Takes the byte at the beginning of a shared memory, and leaves a zero there:
 *
 *     (module
 *       (import "env" "signals" (memory 1 1 shared))
 *       (func (export "check") (result i32)
 *         (i32.atomic.rmw8.xchg_u (i32.const 0) (i32.const 0))))
 */
const MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f],
  ...[0x02, 0x11, 0x01, 0x03, 0x65, 0x6e, 0x76],
  ...[0x07, 0x73, 0x69, 0x67, 0x6e, 0x61, 0x6c, 0x73, 0x02, 0x03, 0x01, 0x01],
  ...[0x03, 0x02, 0x01, 0x00],
  ...[0x07, 0x09, 0x01, 0x05, 0x63, 0x68, 0x65, 0x63, 0x6b, 0x00, 0x00],
  ...[0x0a, 0x0c, 0x01, 0x0a, 0x00, 0x41, 0x00, 0x41, 0x00, 0xfe, 0x43, 0x00, 0x00, 0x0b],
);

/** Allocates the memory in which a signal is sent. */
export function signalMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
}

/** Returns the function that takes a signal from the memory: its number, or 0. */
export function signalCheck(signals: WebAssembly.Memory): () => number {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(MODULE), {
    env: { signals },
  });
  return exports.check as () => number;
}
