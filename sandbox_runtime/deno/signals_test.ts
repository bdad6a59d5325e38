import { strictEqual as assertEquals } from "node:assert/strict";
import {
  acknowledgeSignal,
  clearSignals,
  HostSignals,
  resendSignal,
  sendSignal,
  SIGALRM,
  SIGINT,
} from "./signals.ts";
import { makeShared } from "./worker_messages.ts";

const CELL = 3;

Deno.test("a signal is resent until it is acknowledged", () => {
  const shared = makeShared();
  sendSignal(shared, SIGINT, CELL);
  shared.interrupt[0] = 0; // lost
  assertEquals(resendSignal(shared), true);
  assertEquals(shared.interrupt[0], SIGINT);
  assertEquals(resendSignal(shared), true);
  shared.interrupt[0] = 0; // taken
  assertEquals(acknowledgeSignal(shared, CELL), true);
  assertEquals(resendSignal(shared), false);
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("a signal that arrives twice counts once", () => {
  const shared = makeShared();
  sendSignal(shared, SIGINT, CELL);
  shared.interrupt[0] = 0; // taken, and not yet heard
  resendSignal(shared);
  assertEquals(acknowledgeSignal(shared, CELL), true);
  assertEquals(acknowledgeSignal(shared, CELL), false);
});

Deno.test("each of two different signals counts", () => {
  const shared = makeShared();
  sendSignal(shared, SIGINT, CELL);
  resendSignal(shared);
  assertEquals(acknowledgeSignal(shared, CELL), true);
  sendSignal(shared, SIGALRM, CELL);
  assertEquals(acknowledgeSignal(shared, CELL), true);
});

Deno.test("a signal that a cell raises itself counts", () => {
  const shared = makeShared();
  const heard = [acknowledgeSignal(shared, CELL), acknowledgeSignal(shared, CELL)];
  assertEquals(heard.join(), "true,true");
});

Deno.test("a signal that is meant for an earlier cell does not count", () => {
  const shared = makeShared();
  sendSignal(shared, SIGALRM, CELL);
  assertEquals(acknowledgeSignal(shared, CELL + 1), false);
});

Deno.test("a cell begins without the signals of the last one", () => {
  const shared = makeShared();
  sendSignal(shared, SIGINT, CELL);
  clearSignals(shared);
  assertEquals(shared.interrupt[0], 0);
  assertEquals(resendSignal(shared), false);
});

Deno.test("HostSignals interrupts the running cell", () => {
  const shared = makeShared();
  new HostSignals(shared).handle(() => CELL);
  assertEquals(shared.interrupt[0], SIGINT);
  assertEquals(acknowledgeSignal(shared, CELL), true);
});

Deno.test("HostSignals keeps a signal for a cell that is about to begin", () => {
  const shared = makeShared();
  const [main, worker] = [new HostSignals(shared), new HostSignals(shared)];
  main.handle(() => 0);
  assertEquals(shared.interrupt[0], 0);
  worker.begin(CELL);
  assertEquals(shared.interrupt[0], SIGINT);
  assertEquals(acknowledgeSignal(shared, CELL), true);
});

Deno.test("HostSignals delivers a signal once if its cell begins at that moment", () => {
  const shared = makeShared();
  const [main, worker] = [new HostSignals(shared), new HostSignals(shared)];
  const cells = [0, CELL]; // none at the first look
  main.handle(() => cells.shift()!);
  assertEquals(shared.interrupt[0], SIGINT);
  shared.interrupt[0] = 0;
  worker.begin(CELL);
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("HostSignals drops a signal that came too late for its cell", () => {
  const shared = makeShared();
  const [main, worker] = [new HostSignals(shared), new HostSignals(shared)];
  main.handle(() => 0);
  worker.settle(1);
  worker.begin(CELL + 1);
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("HostSignals waits for every interrupt that was sent", async () => {
  const shared = makeShared();
  const main = new HostSignals(shared);
  const source = `
    import { HostSignals } from "${import.meta.resolve("./signals.ts")}";
    self.onmessage = ({ data }) => {
      const signals = new HostSignals(data);
      signals.settle(2);
      signals.begin(${CELL + 1});
      self.postMessage(null);
    };`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  const settled = new Promise((resolve) => worker.onmessage = resolve);
  main.handle(() => 0);
  worker.postMessage(shared);
  await new Promise((resolve) => setTimeout(resolve, 300)); // the second is on its way
  main.handle(() => 0);
  await settled;
  worker.terminate();
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("HostSignals does not wait forever for interrupts that have arrived as one", () => {
  const shared = makeShared();
  const [main, worker] = [new HostSignals(shared), new HostSignals(shared)];
  main.handle(() => 0);
  worker.settle(2);
  worker.begin(CELL + 1);
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("HostSignals counts the interrupts that Python has acted on", () => {
  const shared = makeShared();
  const [main, worker] = [new HostSignals(shared), new HostSignals(shared)];
  assertEquals(worker.seen, 0);
  main.handle(() => CELL);
  assertEquals(worker.seen, 0);
  acknowledgeSignal(shared, CELL);
  assertEquals(worker.seen, 1);
  main.handle(() => CELL);
  assertEquals(worker.seen, 1);
  acknowledgeSignal(shared, CELL);
  assertEquals(worker.seen, 2);
  worker.settle(2);
  assertEquals(worker.seen, 0);
});

Deno.test("HostSignals does not send an interrupt again that has come", () => {
  const shared = makeShared();
  const [main, worker] = [new HostSignals(shared), new HostSignals(shared)];
  main.handle(() => CELL);
  shared.interrupt[0] = 0; // taken
  worker.await(1, CELL);
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("HostSignals sends one interrupt for those that do not come", () => {
  const shared = makeShared();
  const worker = new HostSignals(shared);
  worker.await(2, CELL);
  assertEquals(shared.interrupt[0], SIGINT);
  assertEquals(acknowledgeSignal(shared, CELL), true);
  assertEquals(worker.seen, 2);
});
