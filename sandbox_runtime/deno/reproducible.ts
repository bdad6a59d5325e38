/**
 * Deterministic clocks, random bytes and finalizers for building the boot image, so that builds from the same
 * sources are identical to the byte. Sessions start from the image with real ones.
 *
 * @module
 */

/** The start of 2026, in milliseconds since 1970: later than every date in Pyodide's files. */
const EPOCH = 1767225600000;

/** Replaces the clocks, the random bytes and the finalizers of this realm, permanently. */
export function repeatEverything(): void {
  let calls = 0;
  Date.now = () => EPOCH + ++calls;
  performance.now = () => ++calls;
  // V8 calls finalizers whenever it collects garbage, and they release objects of Python.
  FinalizationRegistry.prototype.register = () => {};
  let state = 1;
  crypto.getRandomValues = <T extends ArrayBufferView | null>(view: T): T => {
    if (view !== null) {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      for (let at = 0; at < bytes.length; at++) {
        // The constants of MINSTD (Park and Miller, 1988), with the multiplier of 1993.
        // Any sequence would do that is not all zeros.
        state = state * 48271 % 2147483647;
        bytes[at] = state;
      }
    }
    return view;
  };
}
