/**
 * The tokens of Python source, for colours only: their positions are exact, their kinds sometimes wrong.
 */

export type TokenKind =
  | "plain"
  | "comment"
  | "string"
  | "number"
  | "keyword"
  | "builtin"
  | "repl"
  | "name"
  | "decorator";

/** A token; the texts of all tokens, joined, are the source. */
export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
}

const KEYWORDS = new Set(
  ("False None True and as assert async await break case class continue def del elif else except finally for from " +
    "global if import in is lambda match nonlocal not or pass raise return try type while with yield")
    .split(" "),
);

const BUILTINS = new Set(
  ("abs all any bool bytes chr dict dir enumerate filter float format frozenset getattr hasattr hash help hex id int " +
    "isinstance iter len list map max min next object open ord pow print range repr reversed round set setattr slice " +
    "sorted str sum super tuple type vars zip self Exception ValueError TypeError KeyError RuntimeError IndexError")
    .split(" "),
);

/** The functions of the REPL that call models or end the run. */
const REPL = new Set(
  ("llm_query llm_query_batched sub_llm sub_llm_batched predict predict_batched sub_rlm sub_rlm_batched SUBMIT " +
    "FINAL FINAL_VAR").split(" "),
);

// Sticky, one alternative for each kind. Unclosed strings end with the source, or with the line for single quotes.
const TOKEN = new RegExp(
  [
    String.raw`(?<comment>#[^\n]*)`,
    String
      .raw`(?<string>(?:[rRbBuUfFtT]{1,2})?(?:"""(?:[^\\]|\\[^])*?(?:"""|$(?![^]))|'''(?:[^\\]|\\[^])*?(?:'''|$(?![^]))|"(?:[^"\\\n]|\\[^])*"?|'(?:[^'\\\n]|\\[^])*'?))`,
    String.raw`(?<decorator>(?<=(?:^|\n)[ \t]*)@[\w.]+)`,
    String.raw`(?<number>\b(?:0[xXoObB][\da-fA-F_]+|\d[\d_]*(?:\.[\d_]*)?(?:[eE][+-]?\d+)?j?))`,
    String.raw`(?<word>[\p{L}_][\p{L}\p{N}_]*)`,
    String.raw`(?<plain>\s+|[^])`,
  ].join("|"),
  "uy",
);

/** Sources longer than this are shown without colours. */
const MOST_CHARS = 200_000;

/** Returns the tokens of a source. */
export function tokenize(source: string): Token[] {
  if (source.length > MOST_CHARS) {
    return [{ kind: "plain", text: source }];
  }
  const tokens: Token[] = [];
  let previous = "";
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(source); match !== null; match = TOKEN.exec(source)) {
    const text = match[0];
    const groups = match.groups ?? {};
    const kind = groups["word"] === undefined
      ? (Object.keys(groups).find((name) => groups[name] !== undefined) ?? "plain")
      : wordKind(text, previous);
    push(tokens, kind as TokenKind, text);
    if (text.trim() !== "") {
      previous = text;
    }
  }
  return tokens;
}

function wordKind(word: string, previous: string): TokenKind {
  if (previous === "def" || previous === "class") {
    return "name";
  }
  if (previous === ".") {
    return "plain";
  }
  if (KEYWORDS.has(word)) {
    return "keyword";
  }
  return REPL.has(word) ? "repl" : BUILTINS.has(word) ? "builtin" : "plain";
}

function push(tokens: Token[], kind: TokenKind, text: string): void {
  const last = tokens.at(-1);
  if (last !== undefined && last.kind === kind && kind === "plain") {
    tokens[tokens.length - 1] = { kind, text: last.text + text };
  } else {
    tokens.push({ kind, text });
  }
}

/** Returns the tokens of each line. A token over several lines is in each of them. */
export function tokenizeLines(source: string): Token[][] {
  const lines: Token[][] = [[]];
  for (const token of tokenize(source)) {
    token.text.split("\n").forEach((text, index) => {
      if (index > 0) {
        lines.push([]);
      }
      if (text !== "") {
        lines.at(-1)?.push({ kind: token.kind, text });
      }
    });
  }
  return lines;
}
