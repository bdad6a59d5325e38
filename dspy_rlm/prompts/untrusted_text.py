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

from dspy_rlm.prompts.lookalikes import INVISIBLE as _INVISIBLE
from dspy_rlm.prompts.lookalikes import LOOKALIKES

# Every character that an LM may take for a line break.
_BREAK = re.compile("([\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")

# The ways in which the harness begins a line, by name, matched against `_folded` lines. A test checks that
# renderers and instructions use no other.
LINE_FORMS = {
    "step": r"={3,} ?(?i:step) ?[:.#]? ?\d",
    "reasoning": "Reasoning:",
    "code": "Code:",
    "output": r"(?i:output ?\( ?[\d,]+ ?char|repl output ?:)",
    "fence": "`{3}|~{3}",
    "variable": "Variable: ?`",
    "facts of a variable": "(?:Type|Record fields|Description|Constraints|Size|Preview):",
    "no steps": "(?i:you have not interacted with the repl)",
    "no output": r"\( ?(?i:no output ?- ?did you)",
    # Logs have `[ERROR]` and `[error]` at the beginnings of their lines, and the harness does not.
    "error": r"\[ ?(?!ERROR|error)(?i:error) ?\]",
    "note": r"\[ ?(?i:note) ?\]",
    "refusal": "(?i:submit was refused)",
    "slip": "(?i:no code was run ?:)",
    "submission": r"SUBMIT: ?\w|Correct this and SUBMIT|One more turn, only to SUBMIT",
    "rebound names": r"\[ ?(?i:this cell rebound)",
    "background work": r"\[ ?\d+ (?i:background task|thread|callback)\(s\)",
    "coroutine": r"\[ ?(?i:coroutine) .{1,100}was never awaited",
    "lost sandbox": r"\[ ?(?i:the sandbox ended)",
    "abridged": r"\.\.\. ?\( ?[\d,]+ (?i:characters omitted)",
    "budget": r"(?:[Ii]teration: ?)?[Tt]urn \d+ of \d+; .{0,100}left|.{0,100}This is the last turn: SUBMIT"
    "|One more turn, only to SUBMIT",
    "contract": r"The REPL$|Rules:$|Budget: \d|Tools you can call in the REPL:|Functions:$|Variables \((?:see|described)"
    "|`context` is ",
    "extraction": "The run below ended before it submitted|The task was:$",
}
_LINE = re.compile("|".join(f"(?:{form})" for form in LINE_FORMS.values()))

# The set is long, and most characters are ASCII.
_UNSEEN = re.compile(f"(?:(?![\t -~])[{_INVISIBLE}])+")

# Escape sequences of terminals: colours, titles.
_ESCAPE = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x9b[0-?]*[@-~]"
)

# Prefixes of quotations, lists and headings, and spaces of every width.
_LEADING = (
    " \t>-*+#|:\u00b7\u2022\u2023\u25e6\u2013\u2014\x1c\x1d\x1e\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u202f\u205f\u3000"
)

# A line that marks a place in the line of code above it, as Python's tracebacks do. Markdown takes a fence that is
# indented by four blanks for no fence.
_POINTER = re.compile(r"(?: {1,20}\|)? {4,200}[~^][~^ ]*")

# Every form lies within this many characters of the start of a line.
_LOOKED_AT = 240

# The gaps between the parts of a field's mark. In a mark, a character counts as unseen that is no letter and neither ASCII
# nor full width: the exact set would take a second to compile, anew for each set of fields.
_SEEN = "\\w!-~\uff01-\uff5e\ufe64\ufe65"
_FILLERS = "\x1f\u115f\u1160\u3164\uffa0"
_GAP = f"(?:[^{_SEEN}]|[{_FILLERS}])*+"
_HIDDEN = f"(?:[^\\s{_SEEN}]|[{_FILLERS}])*+"

# Letters and what is unseen between them.
_WORD = (
    "[^\\s!-/:-@\\[-^`{-~\uff01-\uff0f\uff1a-\uff20\uff3b-\uff3e\uff40\uff5b-\uff5e\ufe64\ufe65]++"
)

_OPEN, _CLOSE, _SLASH, _BAR = "[<\uff1c\ufe64]", "[>\uff1e\ufe65]", "[/\uff0f]", "[|\uff5c]"

# The fields of our prompts as DSPy's adapters mark them: `[[ ## code ## ]]`, and as tags.
# With blanks between the brackets, it is one only with a name, as arrays of comments in code are not.
_BRACKETS = (
    f"[\\[\uff3b](?={_HIDDEN}[\\[\uff3b]{_GAP}[#\uff03]{_HIDDEN}[#\uff03]"
    f"|{_GAP}[\\[\uff3b]{_GAP}[#\uff03]{_HIDDEN}[#\uff03]{_GAP}{_WORD}{_GAP}[#\uff03])"
)
_OWN_TAGS = ("variables_info", "repl_history", "iteration", "reasoning", "code")

_CHAT_WORDS = "|".join(
    _HIDDEN.join(word)
    for word in ("INST", "SYSTEM_PROMPT", "TOOL_CALLS", "TOOL_RESULTS", "AVAILABLE_TOOLS")
)

# The delimiters of messages in chat templates: `<|im_start|>`, `[INST]`, `<<SYS>>`, `</s>`.
_CHAT = (
    f"{_OPEN}(?={_GAP}{_BAR}{_WORD}{_BAR}{_GAP}{_CLOSE})"
    f"|{_OPEN}(?={_HIDDEN}{_OPEN}?{_HIDDEN}{_SLASH}?(?:SYS{_CLOSE}|start_of_turn|end_of_turn))"
    f"|{_OPEN}(?={_HIDDEN}{_SLASH}{_HIDDEN}s{_HIDDEN}{_CLOSE})"
    f"|[\\[\uff3b](?={_HIDDEN}{_SLASH}?{_HIDDEN}(?:{_CHAT_WORDS}){_HIDDEN}[\\]\uff3d])"
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
    named = "|".join(_HIDDEN.join(map(re.escape, _without_marks(tag))) for tag in tags)
    tagged = f"|{_OPEN}(?={_GAP}{_SLASH}?{_GAP}(?:{named}){_GAP}{_CLOSE})" if named else ""
    return re.compile(f"{_BRACKETS}|{_CHAT}{tagged}")


def _without_marks(tag: str) -> str:
    """Returns a name without what counts as unseen between its letters."""
    return "".join(char for char in tag if not unicodedata.category(char).startswith("M"))


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
    if not (line.isascii() and line.isprintable()):
        line = _UNSEEN.sub("", _ESCAPE.sub("", line))
    line = line.lstrip(_LEADING)[:_LOOKED_AT]
    if not line.isascii():
        # Bounded: normalizing a long run of combining marks takes quadratic time.
        line = unicodedata.normalize("NFKC", _UNSEEN.sub("", line))
        line = _UNSEEN.sub("", line).translate(LOOKALIKES).lstrip(_LEADING)
    return " ".join(line.split())
