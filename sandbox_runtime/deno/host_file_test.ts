import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { CellClock, ClockReader } from "./cell_clock.ts";
import { concat, type Frame, type Part } from "./frames.ts";
import { HostCalls } from "./host_calls.ts";
import { type FileImports, HOST_FILE, HostFile, MAX_CALL_BYTES } from "./host_file.ts";
import { HostPipe } from "./host_pipe.ts";
import { acknowledgeSignal, HostSignals } from "./signals.ts";
import { bytes, encode, frame, read, text } from "./test_support.ts";
import { makeShared } from "./worker_messages.ts";
import { FrameWriter } from "./writer.ts";

const EBADF = 8;
const EFAULT = 21;
const EINTR = 27;

// Where the tests put things in the memory of the program.
const IOVEC = 16;
const COUNTED = 64;
const PLACE = 128;

const REQUEST = 77;
const CALL = '0echo\x0012\0[["hello"],{}]';

/** A program with the host's file, the bytes that it sent, and the answers that it will read. */
class Program {
  readonly shared = makeShared();
  readonly HEAPU8: Part = new Uint8Array(64 * 1024);
  readonly sent: Uint8Array[] = [];
  readonly answers: Frame[] = [];
  readonly clock = new CellClock(this.shared);
  readonly calls = new HostCalls({
    shared: this.shared,
    pipe: new HostPipe((space) => {
      const data = encode(this.answers.shift()!);
      space.set(data);
      return data.length;
    }, { shared: this.shared, post: () => {}, relayed: false }),
    writer: new FrameWriter((data) => this.sent.push(data.slice()) && data.length),
    clock: this.clock,
    signals: new HostSignals(this.shared),
    checkSignal: () => {},
  });
  readonly file = new HostFile(this.calls, this.shared.interrupt);
  readonly others: [string, number][] = [];
  readonly imports: FileImports = {
    fd_write: (fd) => this.others.push(["write", fd]) && 0,
    fd_read: (fd) => this.others.push(["read", fd]) && 0,
  };

  constructor() {
    this.file.addTo(this.imports);
    this.file.open(this);
    this.calls.begin(REQUEST);
    this.clock.begin();
  }

  /** The frames that it sent. */
  get frames(): Frame[] {
    return read(concat(this.sent));
  }

  #iovec(at: number, length: number): void {
    const view = new DataView(this.HEAPU8.buffer);
    view.setUint32(IOVEC, at, true);
    view.setUint32(IOVEC + 4, length, true);
  }

  get counted(): number {
    return new DataView(this.HEAPU8.buffer).getUint32(COUNTED, true);
  }

  /** Writes to the file. Returns the number of the error, or 0. */
  write(data: string | Uint8Array): number {
    const body = typeof data === "string" ? text(data) : data;
    this.HEAPU8.set(body, PLACE);
    this.#iovec(PLACE, body.length);
    return this.imports.fd_write(HOST_FILE, IOVEC, 1, COUNTED);
  }

  /** Reads from the file. Returns what was read, or the number of the error. */
  read(length: number): string | number {
    this.#iovec(PLACE, length);
    const error = this.imports.fd_read(HOST_FILE, IOVEC, 1, COUNTED);
    if (error !== 0) return error;
    return new TextDecoder().decode(this.HEAPU8.slice(PLACE, PLACE + this.counted));
  }

  /** Calls one of the two functions with other addresses. */
  at(name: keyof FileImports, iovec: [number, number], ...place: [number, number, number]): number {
    this.#iovec(...iovec);
    return this.imports[name](HOST_FILE, ...place);
  }
}

const answer = (id: number, fields: Partial<Frame> = {}): Frame =>
  frame({ kind: 2, id, body: text('="hello"'), ...fields });

Deno.test("what is written is a call with the header that is made here, and what is read its answer", () => {
  const program = new Program();
  program.answers.push(answer(1));
  assertEquals(program.write(CALL), 0);
  assertEquals(program.counted, 8);
  assertEquals(program.frames, [frame({ kind: 1, id: 1, arg: REQUEST, body: text(`${CALL}\n`) })]);
  assertEquals(program.read(100), '="hello"');
  assertEquals(program.read(100), EBADF);
});

Deno.test("an answer can be read in pieces, and is gone with the next call", () => {
  const program = new Program();
  program.answers.push(answer(1), answer(2, { body: text("=2") }));
  program.write(CALL);
  assertEquals([program.read(3), program.read(0), program.read(2)], ['="h', "", "el"]);
  program.write(CALL);
  assertEquals([program.read(9), program.read(9)], ["=2", EBADF]);
});

Deno.test("an answer that is not read yet does not change with the next frame of the pipe", () => {
  const program = new Program();
  program.answers.push(answer(1), answer(2, { body: text("=secret of another") }));
  program.write(CALL);
  program.calls.callAndWait({ mode: "wait", tool: "f", inline: "[]", line: 0 }, []);
  assertEquals(program.read(99), '="hello"');
});

Deno.test("raw parts of an answer are taken once", () => {
  const program = new Program();
  program.answers.push(answer(1, { body: text(":{}"), attachments: [bytes(1, 2)] }));
  program.write(CALL);
  assertEquals(program.read(9), ":{}");
  assertEquals(program.calls.takeParts(), [bytes(1, 2)]);
  assertEquals(program.calls.takeParts(), []);
});

Deno.test("a call that is interrupted says so, and sends Python the signal", () => {
  const program = new Program();
  program.answers.push(frame({ kind: 3, id: 1 }));
  program.write(CALL);
  assertEquals(program.shared.interrupt[0], 2);
  assertEquals(program.read(99), EINTR);
  assertEquals(program.read(99), ':{"interrupted":true}');
});

Deno.test("a call says how many interrupts Python has acted on", () => {
  const program = new Program();
  const { shared, clock } = program;
  program.answers.push(answer(1), answer(2 ** 24 + 2));
  new HostSignals(shared).handle(() => clock.cell);
  program.write(CALL);
  acknowledgeSignal(shared, clock.cell);
  program.write(CALL);
  assertEquals(program.frames.map(({ id }) => id), [1, 2 ** 24 + 2]);
});

Deno.test("a call that the host answers for a signal is interrupted, and the signal is not sent again", () => {
  const program = new Program();
  new HostSignals(program.shared).handle(() => program.clock.cell);
  program.shared.interrupt[0] = 0; // taken
  program.answers.push(frame({ kind: 3, id: 1, arg: 1 }));
  program.write(CALL);
  assertEquals(program.shared.interrupt[0], 0);
  assertEquals(program.read(99), ':{"interrupted":true}');
});

Deno.test("Python is told once of a signal that came during the call", () => {
  const program = new Program();
  program.answers.push(answer(1), answer(2));
  program.write(CALL);
  program.shared.interrupt[0] = 14;
  assertEquals([program.read(4), program.read(4), program.read(4)], [EINTR, '="he', 'llo"']);
  program.write(CALL);
  assertEquals(program.read(99), EINTR);
});

Deno.test("the cell's clock stands during a call", () => {
  const program = new Program();
  const reader = new ClockReader(program.shared);
  let looks = 0;
  program.answers.push(answer(1));
  const shift = program.answers.shift.bind(program.answers);
  program.answers.shift = () => {
    looks = Number(reader.look()!.spent === reader.look()!.spent);
    return shift();
  };
  program.write(CALL);
  assertEquals(looks, 1);
});

Deno.test("bytes that are not the body of a blocking call are refused, and nothing is sent", () => {
  const program = new Program();
  const wrong = [
    "",
    "garbage",
    "0",
    "\0",
    "0\0",
    "0\0\0",
    "0echo",
    "0echo\0[]",
    "0echo\0\0[]",
    "0\x001\0[]",
    "0echo\0x\0[]",
    "0echo\0-1\0[]",
    "0echo\x00123456789\0[]",
    "1echo\x001\0[]", // awaited calls have no answer here
    "3echo\x001\0[]",
    "echo\x001\0[]",
    "0écho\x001\0[]",
    '0echo\x001\0["é"]',
    "0echo\x001\0[]\n",
    "0echo\x001\0[]\0",
    "0echo\x001\0[\x7f]",
    '{"jsonrpc":"2.0"}',
  ];
  for (const data of wrong) assertEquals([data, program.write(data)], [data, EBADF]);
  assertEquals(program.write(encode({ kind: 2, id: REQUEST, body: text("{}\n") })), EBADF);
  assertEquals(program.write(`0echo\x001\0[${"1".repeat(MAX_CALL_BYTES)}]`), EBADF);
  assertEquals(program.sent, []);
  assertEquals(program.read(10), EBADF);
});

Deno.test("a batch is a blocking call, and any ASCII is arguments", () => {
  const program = new Program();
  program.answers.push(answer(1), answer(2));
  assertEquals(program.write("2echo\x000\0[]"), 0);
  assertEquals(program.write("0echo\x0012345678\0this is not JSON"), 0);
});

Deno.test("there are no calls before and after a cell", () => {
  const program = new Program();
  program.calls.end();
  assertEquals(program.write(CALL), EBADF);
  assertEquals(program.sent, []);
  program.calls.begin(REQUEST + 1);
  program.answers.push(answer(1));
  assertEquals(program.write(CALL), 0);
  assertEquals(program.frames[0]!.arg, REQUEST + 1);
});

Deno.test("the file is closed until it has a memory", () => {
  const program = new Program();
  const file = new HostFile(program.calls, program.shared.interrupt);
  const imports = { ...program.imports };
  file.addTo(imports);
  assertEquals(imports.fd_write(HOST_FILE, IOVEC, 1, COUNTED), EBADF);
  assertEquals(imports.fd_read(HOST_FILE, IOVEC, 1, COUNTED), EBADF);
});

Deno.test("other descriptors are other files", () => {
  const program = new Program();
  program.imports.fd_write(1, IOVEC, 1, COUNTED);
  program.imports.fd_read(HOST_FILE + 1, IOVEC, 1, COUNTED);
  assertEquals(program.others, [["write", 1], ["read", HOST_FILE + 1]]);
  assertEquals(program.sent, []);
});

Deno.test("addresses outside of the memory are refused", () => {
  const program = new Program();
  const size = program.HEAPU8.length;
  for (const name of ["fd_write", "fd_read"] as const) {
    program.answers.push(answer(1));
    assertEquals(program.at(name, [PLACE, 4], IOVEC, 0, COUNTED), EBADF);
    assertEquals(program.at(name, [PLACE, 4], IOVEC, 2, COUNTED), EBADF);
    for (const far of [size - 7, size, 2 ** 31 - 1, -8, -1]) {
      assertEquals(program.at(name, [PLACE, 4], far, 1, COUNTED), EFAULT);
      assertEquals(program.at(name, [PLACE, 4], IOVEC, 1, far), EFAULT);
    }
    assertEquals(program.at(name, [size - 3, 4], IOVEC, 1, COUNTED), EFAULT);
    assertEquals(program.at(name, [PLACE, 2 ** 32 - 1], IOVEC, 1, COUNTED), EFAULT);
    assertEquals(program.at(name, [2 ** 32 - 1, 1], IOVEC, 1, COUNTED), EFAULT);
  }
  assertEquals(program.sent, []);
});
