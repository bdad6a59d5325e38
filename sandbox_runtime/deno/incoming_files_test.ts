import { strictEqual as assertEquals } from "node:assert/strict";
import { IncomingFiles } from "./incoming_files.ts";
import { bytes } from "./test_support.ts";

Deno.test("take() returns a file that arrived before it was requested", async () => {
  const files = new IncomingFiles();
  const sent = bytes(1, 2);
  files.deliver("a", sent);

  assertEquals(await files.take("a"), sent);
});

Deno.test("take() waits for a file that has not arrived", async () => {
  const files = new IncomingFiles();
  const requested = files.take("a");
  files.deliver("b", bytes(1));
  const sent = bytes(2);
  files.deliver("a", sent);

  assertEquals(await requested, sent);
});

Deno.test("take() removes the file, so the next one of that name is another", async () => {
  const files = new IncomingFiles();
  files.deliver("a", bytes(1));
  await files.take("a");
  const second = bytes(2);
  files.deliver("a", second);

  assertEquals(await files.take("a"), second);
});
