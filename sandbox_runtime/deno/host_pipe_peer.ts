/**
 * A worker for `host_pipe_test.ts`: a `HostPipe` that does what it is told, and reads bytes that it is told.
 *
 * @module
 */

import { HostPipe } from "./host_pipe.ts";
import type { Shared } from "./worker_messages.ts";

/** A command to the peer. */
export type Order =
  | { do: "begin"; shared: Shared; relayed: boolean }
  /** Has the next bytes ready for a read of the worker itself. */
  | { do: "bytes"; bytes: Uint8Array }
  | { do: "expect" }
  | { do: "ask"; id: number }
  | { do: "giveUp" }
  | { do: "take" };

/** Stands in for the read that would never end. */
const NOTHING_TO_READ = "The worker reads, and nothing is there.";

const ready: Uint8Array[] = [];
let pipe: HostPipe;

function read(space: Uint8Array): number {
  const next = ready.shift();
  if (next === undefined) throw new Error(NOTHING_TO_READ);
  const count = Math.min(space.length, next.length);
  space.set(next.subarray(0, count));
  if (count < next.length) ready.unshift(next.subarray(count));
  return count;
}

function obey(order: Order): unknown {
  switch (order.do) {
    case "begin": {
      const { shared, relayed } = order;
      const post = (message: unknown): void => self.postMessage({ message });
      pipe = new HostPipe(read, { shared, post, relayed });
      return null;
    }
    case "bytes":
      return ready.push(order.bytes);
    case "expect":
      return pipe.expectAnswer();
    case "ask":
      return pipe.ask(order.id, () => self.postMessage({ sent: order.id }));
    case "giveUp":
      return pipe.giveUp();
    case "take":
      return pipe.takeRequest();
  }
}

self.onmessage = ({ data }: MessageEvent<Order>): void => {
  try {
    self.postMessage({ done: obey(data) ?? null });
  } catch (error) {
    self.postMessage({ failed: String(error) });
  }
};
