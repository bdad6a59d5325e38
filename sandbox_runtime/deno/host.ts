/**
 * The main thread of the sandbox process: starts the worker and watches it, and never runs user code.
 *
 * Ends with its parent process. stdin and stdout are the wire, of which `host_pipe.ts` says who reads it.
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
  await sandbox.start().catch((error) => sandbox.break(error));
}

if (import.meta.main) await main();
