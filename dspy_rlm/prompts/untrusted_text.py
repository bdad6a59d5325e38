"""Escapes untrusted text so that it cannot pass for the harness's own text in a prompt.

An attacker may have written what cells print, what tools and sub-LMs return, and what inputs contain. The
text stays readable but cannot begin a step, a note, a fence or a field of the prompt. `LINE_FORMS` has
every way in which the harness itself begins a line. The work is linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# Every character that an LM may take for a line break.
_BREAK = re.compile("([\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")

# The ways in which the harness begins a line, by name, matched against `_folded` lines. A test checks that
# renderers and instructions use no other.
LINE_FORMS = {
    "step": r"={3,} ?(?i:step) ?\d",
    "reasoning": "Reasoning:",
    "code": "Code:",
    "output": r"Output ?\([\d,]+ char|REPL output:",
    "fence": "`{3}|~{3}",
    "variable": "Variable: ?`",
    "facts of a variable": "(?:Type|Record fields|Description|Constraints|Size|Preview):",
    "no steps": "You have not interacted with the REPL",
    "no output": r"\(no output - did you",
    "error": r"\[Error\]",
    "note": r"\[Note\]",
    "refusal": "SUBMIT was refused",
    "slip": "No code was run:",
    "submission": r"SUBMIT: ?\w|Correct this and SUBMIT|One more turn, only to SUBMIT",
    "rebound names": r"\[this cell rebound",
    "background work": r"\[\d+ (?:background task|thread|callback)\(s\)",
    "coroutine": r"\[coroutine .{1,100}was never awaited",
    "lost sandbox": r"\[The sandbox ended",
    "abridged": r"\.\.\. ?\([\d,]+ characters omitted",
    "budget": r"(?:[Ii]teration: ?)?[Tt]urn \d+ of \d+; .{0,100}left|.{0,100}This is the last turn: SUBMIT"
    "|One more turn, only to SUBMIT",
    "contract": r"The REPL$|Rules:$|Budget: \d|Tools you can call in the REPL:|Functions:$|Variables \((?:see|described)"
    "|`context` is ",
    "extraction": "The run below ended before it submitted|The task was:$",
}
_LINE = re.compile("|".join(f"(?:{form})" for form in LINE_FORMS.values()))

# Characters that are invisible or only modify others: controls, formats, fillers, combining marks. Line
# breaks are not among them.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u0300-\u036f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891"
    "\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u20d0-\u20ff\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSEEN = re.compile(f"[{_INVISIBLE}]+")

# Escape sequences of terminals: colours, titles.
_ESCAPE = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x9b[0-?]*[@-~]"
)

# Prefixes of quotations, lists and headings, and spaces of every width.
_LEADING = (
    " \t>-*+#|:\u00b7\u2022\u2023\u25e6\u2013\u2014\x1c\x1d\x1e\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u202f\u205f\u3000"
)

# Homoglyphs: letters and signs of other scripts that look like those of the forms.
_LOOKALIKES = str.maketrans(
    "\u0430\u03b1\u0432\u0441\u03f2\u0435\u03b5\u04bb\u043d\u0456\u03b9\u0457"
    "\u0458\u043a\u03ba\u04cf\u043c\u0578\u043e\u03bf\u0440\u03c1\u0455\u0442"
    "\u03c4\u03c5\u03bd\u0445\u0501\u051b\u0461\u0443\ua78f\u0410\u0391\u0412"
    "\u0392\u0421\u0415\u0395\u041d\u0397\u0406\u0399\u0408\u041a\u039a\u041c"
    "\u039c\u039d\u041e\u039f\u0420\u03a1\u0405\u0422\u03a4\u0425\u03a7\u0423"
    "\u03a5\u2550\ua78a\u2e40\u1400\u207c\u208c\u01c0\u2223\u3163",
    "aabcceehhiiijkklmnooppsttuvxdqwy.AABBCEEHHIIJKKMMNOOPPSTTXXYY======|||",
)

# A line that marks a place in the line of code above it, as Python's tracebacks do. Markdown takes a fence that is
# indented by four blanks for no fence.
_POINTER = re.compile(r"(?: {1,20}\|)? {4,200}[~^][~^ ]*")

# Every form lies within this many characters of the start of a line.
_LOOKED_AT = 240

# The gap between the parts of a field's mark.
_GAP = f"[\\s{_INVISIBLE}]*+"
_HIDDEN = f"[{_INVISIBLE}]*+"

_OPEN, _CLOSE, _SLASH, _BAR = "[<\uff1c\ufe64]", "[>\uff1e\ufe65]", "[/\uff0f]", "[|\uff5c]"

# The fields of our prompts as DSPy's adapters mark them: `[[ ## code ## ]]`, and as tags.
_BRACKETS = f"[\\[\uff3b](?={_HIDDEN}[\\[\uff3b]{_GAP}[#\uff03]{_HIDDEN}[#\uff03])"
_OWN_TAGS = ("variables_info", "repl_history", "iteration", "reasoning", "code")

# The delimiters of messages in chat templates: `<|im_start|>`, `[INST]`, `<<SYS>>`.
_CHAT = (
    f"{_OPEN}(?={_GAP}{_BAR}(?:{_HIDDEN}[\\w\u2581]){{1,60}}+{_HIDDEN}{_BAR}{_GAP}{_CLOSE})"
    f"|{_OPEN}(?={_HIDDEN}{_OPEN}?{_HIDDEN}{_SLASH}?(?:SYS{_CLOSE}|start_of_turn|end_of_turn))"
    f"|[\\[\uff3b](?={_HIDDEN}{_SLASH}?INST{_HIDDEN}[\\]\uff3d])"
)

# The marker that DSPy replaces with the image, audio or file at the address after it.
_PART = re.compile("(?<=<<)(?=CUSTOM-TYPE-)")


def as_data(text: str) -> str:
    """Returns the text with a backslash before everything that looks like the harness's own text."""
    parts = _BREAK.split(text)
    parts[::2] = [f"\\{line}" if line and _is_ours(line) else line for line in parts[::2]]
    return as_value("".join(parts), _OWN_TAGS)


def as_value(text: str, tags: Iterable[str] = ()) -> str:
    """Returns the text with a backslash in everything that looks like a field of a prompt or ends a message.

    `tags` are the fields that the prompt has as `<name>`.
    """
    return _PART.sub(r"\\", _marks(tuple(tags)).sub(r"\\\g<0>", text))


def as_prompt(text: str) -> str:
    """Returns a whole prompt with a backslash in what would end its message or be replaced by media."""
    return _PART.sub(r"\\", _chat_marks().sub(r"\\\g<0>", text))


@lru_cache(maxsize=256)
def _marks(tags: tuple[str, ...]) -> re.Pattern[str]:
    named = "|".join(_HIDDEN.join(map(re.escape, tag)) for tag in tags)
    tagged = f"|{_OPEN}(?={_GAP}{_SLASH}?{_GAP}(?:{named}){_GAP}{_CLOSE})" if named else ""
    return re.compile(f"{_BRACKETS}|{_CHAT}{tagged}")


@lru_cache(maxsize=1)
def _chat_marks() -> re.Pattern[str]:
    return re.compile(_CHAT)


def _is_ours(line: str) -> bool:
    """Returns True if a line could be taken for one of the harness's."""
    if _POINTER.fullmatch(line):
        return False
    # An escape character may begin a sequence, or precede a bracket that belongs to a form.
    ways = {line, line.replace("\x1b", "").replace("\x9b", "[")}
    return any(_LINE.match(_folded(way)) for way in ways)


def _folded(line: str) -> str:
    """Returns the beginning of a line as it looks: without invisible characters, in plain letters."""
    if not line.isprintable():
        line = _UNSEEN.sub("", _ESCAPE.sub("", line))
    line = line.lstrip(_LEADING)[:_LOOKED_AT]
    if not line.isascii():
        # Bounded: normalizing a long run of combining marks takes quadratic time.
        line = unicodedata.normalize("NFKC", _UNSEEN.sub("", line))
        line = _UNSEEN.sub("", line).translate(_LOOKALIKES).lstrip(_LEADING)
    return " ".join(line.split())
