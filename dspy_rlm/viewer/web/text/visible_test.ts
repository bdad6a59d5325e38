import { fragments, plain } from "./visible.ts";

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("plain() keeps ordinary text in any script", () => {
  for (
    const text of [
      "a b",
      "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
      "\u{1f469}\u200d\u{1f680}",
    ]
  ) {
    equal(plain(text), text);
  }
});

Deno.test("plain() shows what would be invisible or would reorder text", () => {
  equal(plain("a\u202eb"), "a\u27e8U+202E\u27e9b");
  equal(plain("a\0b"), "a\u27e8NUL\u27e9b");
  equal(plain("a\u200bb"), "a\u27e8U+200B\u27e9b");
  equal(plain("a\u200db"), "a\u27e8U+200D\u27e9b");
  equal(plain("\ud800"), "\u27e8U+D800\u27e9");
});

Deno.test("fragments() takes an ANSI sequence as one mark", () => {
  equal(fragments("\x1b[31mred\x1b[0m"), [
    { kind: "mark", label: "ESC[31m", title: "ANSI escape sequence" },
    { kind: "text", text: "red" },
    { kind: "mark", label: "ESC[0m", title: "ANSI escape sequence" },
  ]);
});

Deno.test("fragments() keeps newlines and tabs", () => {
  equal(fragments("a\n\tb"), [{ kind: "text", text: "a\n\tb" }]);
});
