import { tokenize, tokenizeLines } from "./python.ts";

function kinds(source: string): string[] {
  return tokenize(source)
    .filter((token) => token.text.trim() !== "")
    .map((token) => `${token.kind}:${token.text.trim()}`);
}

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("tokenize() tells keywords, strings, comments and numbers apart", () => {
  equal(kinds('def f(x): return f"a{x}" # b'), [
    "keyword:def",
    "name:f",
    "plain:(x):",
    "keyword:return",
    'string:f"a{x}"',
    "comment:# b",
  ]);
  equal(kinds("sub_llm('a') + 0x1F"), [
    "repl:sub_llm",
    "plain:(",
    "string:'a'",
    "plain:) +",
    "number:0x1F",
  ]);
});

Deno.test("tokenize() loses no character, whatever the source is", () => {
  for (
    const source of [
      '"""open',
      "'a\\",
      "x = '\n y",
      "\u{1f600} = 1",
      "@a.b\ndef f(): ...",
      '"\\\n"',
    ]
  ) {
    equal(tokenize(source).map((token) => token.text).join(""), source);
  }
});

Deno.test("tokenizeLines() colours each line of a long string", () => {
  equal(tokenizeLines('a = """b\nc"""').map((line) => line.at(-1)), [
    { kind: "string", text: '"""b' },
    { kind: "string", text: 'c"""' },
  ]);
});
