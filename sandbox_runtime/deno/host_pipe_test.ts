/** Turns at the pipe: a real worker and this thread share it, and no byte is lost or read twice. */

import {
  deepStrictEqual as assertEquals,
  rejects as assertRejects,
  throws,
} from "node:assert/strict";
import { concat, type Frame, type Part } from "./frames.ts";
import type { Order } from "./host_pipe_peer.ts";
import { HostReader } from "./host_reader.ts";
import { bytes, encode, frame, text } from "./test_support.ts";
import { makeShared } from "./worker_messages.ts";

/** stdin: bytes that the host writes when the test says so. A read that has begun takes the next ones. */
class Stdin {
  readonly #ready: Part[] = [];
  #waiting: ((part: Part) => void) | null = null;

  get isRead(): boolean {
    return this.#waiting !== null;
  }

  write(...parts: Part[]): void {
    this.#ready.push(concat(parts));
    if (this.#waiting !== null) this.#waiting(this.#ready.shift()!);
    this.#waiting = null;
  }

  async read(space: Uint8Array): Promise<number> {
    return this.#put(
      space,
      this.#ready.shift() ?? await new Promise<Part>((resolve) => this.#waiting = resolve),
    );
  }

  /** The end of the pipe takes the place of waiting, which this thread cannot. */
  readSync(space: Uint8Array): number | null {
    const next = this.#ready.shift();
    return next === undefined ? null : this.#put(space, next);
  }

  #put(space: Uint8Array, next: Part): number {
    const count = Math.min(space.length, next.length);
    space.set(next.subarray(0, count));
    if (count < next.length) this.#ready.unshift(next.slice(count));
    return count;
  }
}

/** The two ends, and what the worker's has said. */
class Ends {
  readonly shared = makeShared();
  readonly stdin = new Stdin();
  readonly posted: Frame[] = [];
  readonly failures: unknown[] = [];
  readonly #worker = new Worker(new URL("./host_pipe_peer.ts", import.meta.url), {
    type: "module",
  });
  readonly reader = new HostReader(this.stdin, {
    shared: this.shared,
    postAnswer: (answer) => this.posted.push(answer),
    closed: () => {
      throw new Error("closed");
    },
  });
  readonly #done: ((result: unknown) => void)[] = [];
  /** Messages to the main thread are kept while this is true, as in a busy event loop. */
  late = false;
  readonly #held: string[] = [];
  #sent: (() => void) | null = null;

  static async begin(relayed = false): Promise<Ends> {
    const ends = new Ends();
    await ends.order({ do: "begin", shared: ends.shared, relayed });
    return ends;
  }

  constructor() {
    this.#worker.onmessage = ({ data }) => {
      if ("message" in data) {
        this.#held.push(data.message.op);
        if (!this.late) this.deliver();
      } else if ("sent" in data) this.#sent?.();
      else this.#done.shift()!(data.failed ?? data.done);
    };
  }

  /** Handles the messages of the worker. */
  deliver(): void {
    for (const op of this.#held.splice(0)) {
      const work = op === "read" ? this.reader.readOwed() : this.reader.release();
      work.catch((error) => this.failures.push(error));
    }
  }

  /** Has the worker do something, and returns the result. */
  order(order: Order): Promise<unknown> {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.#done.push(resolve);
    this.#worker.postMessage(order);
    return promise;
  }

  /** Has the worker make a call and wait for the answer. Returns, in an object, when the call has been made. */
  async ask(id: number): Promise<{ answer: Promise<unknown> }> {
    const sent = new Promise<void>((resolve) => this.#sent = resolve);
    const answer = this.order({ do: "ask", id });
    await sent;
    return { answer };
  }

  end(): void {
    assertEquals(this.failures, []);
    this.#worker.terminate();
  }
}

/** Waits until the other thread and this one have done what they can. */
async function settle(isDone: () => boolean): Promise<void> {
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 1));
}

const answer = (id: number, body = "=1"): Frame => frame({ kind: 2, id, body: text(body) });
const request = (id: number): Frame => frame({ kind: 1, id, body: text("code") });

Deno.test("the worker reads an answer itself if the main thread owes none", async () => {
  const ends = await Ends.begin();
  await ends.order({ do: "bytes", bytes: encode(answer(1)) });
  assertEquals(await ends.order({ do: "ask", id: 1 }), answer(1));
  assertEquals(ends.stdin.isRead, false);
  ends.end();
});

Deno.test("the main thread reads as many answers as are owed, and begins no read beyond", async () => {
  const ends = await Ends.begin();
  await ends.order({ do: "expect" });
  await ends.order({ do: "expect" });
  await settle(() => ends.stdin.isRead);
  ends.stdin.write(encode(answer(2)));
  await settle(() => ends.posted.length === 1 && ends.stdin.isRead);
  ends.stdin.write(encode(answer(1)));
  await settle(() => ends.posted.length === 2);
  assertEquals(ends.posted, [answer(2), answer(1)]);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(ends.stdin.isRead, false);
  await ends.order({ do: "giveUp" });
  await ends.order({ do: "bytes", bytes: encode(request(9)) });
  assertEquals(await ends.order({ do: "take" }), request(9));
  ends.end();
});

Deno.test("an answer that blocks the worker passes through the window while others are owed", async () => {
  const ends = await Ends.begin();
  await ends.order({ do: "expect" });
  await settle(() => ends.stdin.isRead);
  const asked = await ends.ask(7);
  const large = frame({
    kind: 2,
    id: 7,
    body: text("=2"),
    attachments: [new Uint8Array(3_000_000)],
  });
  ends.stdin.write(encode(large));
  const found = await asked.answer as Frame;
  assertEquals([found.id, found.attachments[0]!.length, ends.posted.length], [7, 3_000_000, 0]);
  await settle(() => ends.stdin.isRead);
  ends.stdin.write(encode(answer(1)));
  await settle(() => ends.posted.length === 1);
  // From here on the worker reads itself again.
  await ends.order({ do: "bytes", bytes: encode(answer(8)) });
  assertEquals(await ends.order({ do: "ask", id: 8 }), answer(8));
  ends.end();
});

Deno.test("a read that has begun cannot be cancelled: the next request passes on through it", async () => {
  const ends = await Ends.begin();
  await ends.order({ do: "expect" });
  await settle(() => ends.stdin.isRead);
  await ends.order({ do: "giveUp" });
  const taken = ends.order({ do: "take" });
  ends.stdin.write(encode(request(9)));
  assertEquals(await taken, request(9));
  assertEquals(ends.stdin.isRead, false);
  await ends.order({ do: "bytes", bytes: encode(request(10)) });
  assertEquals(await ends.order({ do: "take" }), request(10));
  ends.end();
});

Deno.test("a read may bring more than one frame, and half of the next: none is lost", async () => {
  const ends = await Ends.begin();
  await ends.order({ do: "expect" });
  await settle(() => ends.stdin.isRead);
  await ends.order({ do: "giveUp" });
  const piece = frame({
    kind: 4,
    body: text("{}"),
    attachments: [new Uint8Array(200_000).fill(5)],
  });
  const whole = encode(piece);
  ends.stdin.write(encode(answer(1)), encode(request(9)), whole.slice(0, 100));
  const first = ends.order({ do: "take" });
  await settle(() => ends.stdin.isRead);
  ends.stdin.write(whole.slice(100));
  assertEquals(await first, request(9)); // the late answer is dropped
  const second = await ends.order({ do: "take" }) as Frame;
  assertEquals(second.attachments[0]!.length, 200_000);
  assertEquals(ends.stdin.isRead, false);
  await ends.order({ do: "bytes", bytes: encode(request(10)) });
  assertEquals(await ends.order({ do: "take" }), request(10));
  ends.end();
});

Deno.test("the pipe comes back at once if no read is in progress any more", async () => {
  const ends = await Ends.begin();
  await ends.order({ do: "expect" });
  await settle(() => ends.stdin.isRead);
  ends.late = true;
  await ends.order({ do: "giveUp" });
  ends.stdin.write(encode(answer(1))); // read before the main thread hears of it
  await ends.order({ do: "bytes", bytes: encode(request(9)) });
  const taken = ends.order({ do: "take" });
  ends.late = false;
  ends.deliver();
  assertEquals(await taken, request(9));
  assertEquals(ends.stdin.isRead, false);
  ends.end();
});

Deno.test("the next cell may await answers as soon as it has begun", async () => {
  const ends = await Ends.begin();
  for (let round = 0; round < 20; round++) {
    await ends.order({ do: "expect" });
    await settle(() => ends.stdin.isRead);
    await ends.order({ do: "giveUp" });
    const taken = ends.order({ do: "take" });
    ends.stdin.write(encode(request(round)));
    assertEquals(await taken, request(round));
    await ends.order({ do: "bytes", bytes: encode(answer(100 + round)) });
    assertEquals(await ends.order({ do: "ask", id: 100 + round }), answer(100 + round));
  }
  assertEquals(ends.posted, []);
  ends.end();
});

Deno.test("another answer than the one that was asked for is a breach", async () => {
  const ends = await Ends.begin();
  await ends.order({ do: "bytes", bytes: encode(answer(2)) });
  assertEquals(
    await ends.order({ do: "ask", id: 1 }),
    "ProtocolError: The host did not answer the call.",
  );
  ends.end();
});

Deno.test("a request while answers are owed is a breach, and so is more than is owed", async () => {
  for (const more of [[request(1)], [answer(1), request(2)], [answer(1), answer(2)]]) {
    const ends = await Ends.begin();
    await ends.order({ do: "expect" });
    await settle(() => ends.stdin.isRead);
    ends.stdin.write(...more.map(encode));
    await settle(() => ends.failures.length > 0);
    await assertRejects(Promise.reject(ends.failures.pop()), /before the last|more than/);
    ends.end();
  }
});

Deno.test("a relaying main thread passes on requests, answers and interrupts", async () => {
  const ends = await Ends.begin(true);
  let interrupts = 0;
  ends.reader.relay(({ id }) => id === 99, () => interrupts += 1)
    .catch((error) => ends.failures.push(error));
  ends.stdin.write(encode(request(1)), encode(frame({ kind: 4, id: 99 })), encode(request(2)));
  assertEquals(await ends.order({ do: "take" }), request(1));
  assertEquals(await ends.order({ do: "take" }), request(2));
  assertEquals(interrupts, 1);
  await ends.order({ do: "expect" });
  ends.stdin.write(encode(answer(3)));
  await settle(() => ends.posted.length === 1);
  const asked = await ends.ask(4);
  ends.stdin.write(encode(frame({ kind: 3, id: 4, body: bytes() })));
  assertEquals(await asked.answer, frame({ kind: 3, id: 4 }));
  await ends.order({ do: "giveUp" });
  const taken = ends.order({ do: "take" });
  ends.stdin.write(encode(request(5)));
  assertEquals(await taken, request(5));
  ends.end();
});

Deno.test("the start is read blocking, to the end of the pipe", () => {
  const ends = new Ends();
  const large = frame({ kind: 4, body: new Uint8Array(300_000).fill(7), attachments: [bytes(1)] });
  const parts = encode(large);
  ends.stdin.write(encode(request(1)), parts.slice(0, 100_000));
  ends.stdin.write(parts.slice(100_000));
  assertEquals(ends.reader.nextBlocking(), request(1));
  assertEquals(ends.reader.nextBlocking(), large);
  throws(() => ends.reader.nextBlocking(), /closed/);
  ends.end();
});
