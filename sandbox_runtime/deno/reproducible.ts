/**
 * Time, chance and the work of the garbage collector while the boot image is made, the same at every
 * making: so that two people who build from the same sources get the same bytes. A session is started
 * from the image, with real ones.
 *
 * @module
 */

/** The beginning of 2026, in milliseconds: later than every date in Pyodide's files. */
const EPOCH = 1767225600000;

/** Replaces the clocks and the source of random bytes of this realm, and what cleans up, for good. */
export function repeatEverything(): void {
  let calls = 0;
  Date.now = () => EPOCH + ++calls;
  performance.now = () => ++calls;
  // What Python gave away to JavaScript is let go of when V8 happens to clean up.
  FinalizationRegistry.prototype.register = () => {};
  let state = 1;
  crypto.getRandomValues = <T extends ArrayBufferView | null>(view: T): T => {
    if (view !== null) {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      for (let at = 0; at < bytes.length; at++) {
        // The constants of "minstd": any sequence does that is not all zeros.
        state = state * 48271 % 2147483647;
        bytes[at] = state;
      }
    }
    return view;
  };
}
