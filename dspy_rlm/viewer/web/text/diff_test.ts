import { countChanges, diffLines } from "./diff.ts";

function show(before: string, after: string): string {
  const marks = { same: " ", added: "+", removed: "-" };
  return diffLines(before, after).map((line) => `${marks[line.change]}${line.text}`).join("|");
}

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("diffLines() finds the shortest edit", () => {
  equal(show("a\nb\nc", "a\nc"), " a|-b| c");
  equal(show("a\nb\nc\na\nb\nb\na", "c\nb\na\nb\na\nc").replaceAll(/[^+-]/g, "").length, 5);
  equal(show("a", "b"), "-a|+b");
  equal(show("", "b"), "+b");
  equal(show("a\nx\nb\ny\nc", "a\nX\nb\nY\nc"), " a|-x|+X| b|-y|+Y| c");
});

Deno.test("diffLines() has each line of both texts once, in order", () => {
  let seed = 7;
  const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648);
  for (let round = 0; round < 200; round++) {
    const [before, after] = [0, 1].map(() =>
      Array.from({ length: random() % 12 }, () => "abc"[random() % 3]).join("\n")
    ) as [string, string];
    const lines = diffLines(before, after);
    const side = (skipped: string) =>
      lines.filter((line) => line.change !== skipped).map((line) => line.text).join("\n");
    equal(side("added"), before);
    equal(side("removed"), after);
  }
});

Deno.test("diffLines() ends in time for texts that have nothing in common", () => {
  const lines = diffLines(
    Array.from({ length: 20_000 }, (_, index) => `a${index}`).join("\n"),
    Array.from({ length: 20_000 }, (_, index) => `b${index}`).join("\n"),
  );
  equal(countChanges(lines), { added: 20_000, removed: 20_000 });
});
