/**
 * The main thread of the sandbox process: owns the pipe and the clock, and never runs user code.
 *
 * Reads the host's frames from stdin for as long as the parent process lives. stdout is the wire.
 *
 * @module
 */

import { Sandbox } from "./sandbox.ts";

/**
 * The interval at which to check that the parent process is alive (its pipe may outlive it in a forked child),
 * and that nothing works between requests.
 */
const CHECK_MILLISECONDS = 500;

async function main(): Promise<void> {
  const parent = Deno.ppid;
  const sandbox = new Sandbox();
  setInterval(() => {
    if (Deno.ppid !== parent) Deno.exit(1);
    sandbox.checkRest();
  }, CHECK_MILLISECONDS);
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    sandbox.break(event.reason);
  });
  const { reader } = sandbox;
  for (;;) {
    const count = await Deno.stdin.read(reader.space());
    if (count === null) Deno.exit(0);
    try {
      for (const frame of reader.advance(count)) {
        sandbox.receive(frame).catch((error) => sandbox.break(error));
      }
      await sandbox.ready();
    } catch (error) {
      await sandbox.break(error);
    }
  }
}

if (import.meta.main) await main();
