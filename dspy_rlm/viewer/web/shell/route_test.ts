import { HOME, linkTo, parseRoute } from "./route.ts";

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("parseRoute() reads what linkTo() writes", () => {
  for (
    const route of [
      HOME,
      { journal: 1, target: { kind: "step", run: 2, step: 13 }, view: "prompt", rest: [] },
      { journal: 0, target: { kind: "call", call: 7 }, view: "", rest: [] },
      { journal: 0, target: { kind: "run", run: 0 }, view: "inputs", rest: ["a/b #%", "[3]", "5"] },
      { journal: 0, target: { kind: "compare" }, view: "", rest: [] },
    ] as const
  ) {
    equal(parseRoute(linkTo(route.journal, route.target, route.view, route.rest)), route);
  }
});

Deno.test("parseRoute() takes the first run for anything else", () => {
  for (const fragment of ["", "#", "#x", "#r", "#r0-s", "#c%", "#r99999999999999", "#<script>"]) {
    equal(parseRoute(fragment), HOME);
  }
});
