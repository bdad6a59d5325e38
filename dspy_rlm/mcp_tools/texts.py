"""Names and descriptions of a server as text of a prompt: bounded, on one line where they should be, and escaped.

They are untrusted: a server may imitate a part of the prompt, or hide text in invisible characters.
"""

from __future__ import annotations

import unicodedata

from dspy_rlm.mcp_tools.bounds import MAX_LINE_CHARS, MAX_NAME_CHARS
from dspy_rlm.prompts.untrusted_text import as_data

# Characters that are not shown, or that change how others are: controls, formats, surrogates, private use.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def safe_text(text: object, limit: int) -> str:
    """Returns a description: at most `limit` characters of its lines, without hidden ones, escaped for a prompt."""
    whole = str(text or "")
    kept = whole[: 4 * limit].replace("\r\n", "\n").replace("\t", "    ")
    lines = ("".join(filter(_is_shown, line)).rstrip() for line in kept.split("\n"))
    clean = "\n".join(lines).strip()
    is_cut = len(clean) > limit or len(whole) > 4 * limit
    escaped = as_data(clean[:limit])
    return f"{escaped} ..." if is_cut else escaped


def safe_line(text: object, limit: int = MAX_LINE_CHARS) -> str:
    """Returns the first sentence of a description, on one line."""
    line = " ".join(safe_text(text, 4 * limit).split())
    first, dot, _ = line.partition(". ")
    line = f"{first}." if dot else line
    return line if len(line) <= limit else f"{line[:limit].rstrip()} ..."


def safe_name(name: object) -> str:
    """Returns a name as it can be shown in a text: bounded, without hidden characters, escaped."""
    return as_data("".join(filter(_is_shown, str(name)[:MAX_NAME_CHARS])))


def is_safe(text: str, limit: int) -> bool:
    """Returns whether a text can be shown in a prompt as it is."""
    return len(text) <= limit and safe_text(text, limit) == text.strip()


def _is_shown(char: str) -> bool:
    return unicodedata.category(char) not in _HIDDEN
