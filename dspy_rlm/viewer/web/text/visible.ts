/**
 * Safe display of text: control, bidirectional and invisible characters become visible marks.
 *
 * The Unicode standard's security report (UTR 36) and "Trojan Source" (CVE-2021-42574) describe the attacks. Decides
 * only; `text/lines.ts` draws the result.
 */

/** A part of a text: as it is, or a mark for characters that would be invisible or change the text around them. */
export type Fragment =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "mark"; readonly label: string; readonly title: string };

const NAMES: Readonly<Record<number, string>> = {
  0x00: "NULL",
  0x07: "BELL",
  0x08: "BACKSPACE",
  0x0d: "CARRIAGE RETURN",
  0x1b: "ESCAPE",
  0x7f: "DELETE",
  0xad: "SOFT HYPHEN",
  0x61c: "ARABIC LETTER MARK",
  0x200b: "ZERO WIDTH SPACE",
  0x200c: "ZERO WIDTH NON-JOINER",
  0x200d: "ZERO WIDTH JOINER",
  0x200e: "LEFT-TO-RIGHT MARK",
  0x200f: "RIGHT-TO-LEFT MARK",
  0x2028: "LINE SEPARATOR",
  0x2029: "PARAGRAPH SEPARATOR",
  0x202a: "LEFT-TO-RIGHT EMBEDDING",
  0x202b: "RIGHT-TO-LEFT EMBEDDING",
  0x202c: "POP DIRECTIONAL FORMATTING",
  0x202d: "LEFT-TO-RIGHT OVERRIDE",
  0x202e: "RIGHT-TO-LEFT OVERRIDE",
  0x2060: "WORD JOINER",
  0x2066: "LEFT-TO-RIGHT ISOLATE",
  0x2067: "RIGHT-TO-LEFT ISOLATE",
  0x2068: "FIRST STRONG ISOLATE",
  0x2069: "POP DIRECTIONAL ISOLATE",
  0xfeff: "ZERO WIDTH NO-BREAK SPACE",
};

// An ANSI escape sequence as a whole (ECMA-48: CSI, then OSC with its end, then two-byte ones), else one character.
// Joiners are left alone after a letter beyond Latin, where scripts and emoji need them. Lone surrogates count.
const UNSAFE =
  // deno-lint-ignore no-control-regex
  /\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|\x1b[@-_]|[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|(?<![^\0-\u024f])[\u200c\u200d]|[\u{e0000}-\u{e0fff}]|[\ud800-\udfff]/gu;

/** Returns the fragments of a text, in order. Newlines and tabs stay. */
export function fragments(text: string): Fragment[] {
  const parts: Fragment[] = [];
  let end = 0;
  for (const match of text.matchAll(UNSAFE)) {
    if (match.index > end) {
      parts.push({ kind: "text", text: text.slice(end, match.index) });
    }
    parts.push(mark(match[0]));
    end = match.index + match[0].length;
  }
  if (end < text.length) {
    parts.push({ kind: "text", text: text.slice(end) });
  }
  return parts;
}

/** Returns the text on one line, with marks in place of unsafe characters: for labels and attributes. */
export function plain(text: string, limit = 200): string {
  const cut = text.length > limit ? `${text.slice(0, limit)}\u2026` : text;
  return fragments(cut.replace(/\s+/g, " ").trim())
    .map((part) => (part.kind === "text" ? part.text : `\u27e8${part.label}\u27e9`))
    .join("");
}

function mark(found: string): Fragment {
  if (found.length > 1 && found.startsWith("\x1b")) {
    const rest = found.slice(1).replace(/[^ -~]/g, "");
    return { kind: "mark", label: `ESC${rest.slice(0, 40)}`, title: "ANSI escape sequence" };
  }
  const code = found.codePointAt(0) ?? 0;
  const label = code === 0 ? "NUL" : code === 0x1b ? "ESC" : code === 0x0d ? "CR" : unicode(code);
  return { kind: "mark", label, title: `${unicode(code)} ${NAMES[code] ?? kindOf(code)}`.trim() };
}

function unicode(code: number): string {
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

function kindOf(code: number): string {
  if (code >= 0xd800 && code <= 0xdfff) {
    return "LONE SURROGATE";
  }
  if (code >= 0xe0000) {
    return "TAG OR VARIATION SELECTOR";
  }
  return code < 0xa0 ? "CONTROL CHARACTER" : "FORMAT CHARACTER";
}
