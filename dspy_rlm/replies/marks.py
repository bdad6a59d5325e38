"""Marks around code that are no fences: those of HTML, LaTeX, forums and other agents, and fences of typographic quotes."""

from __future__ import annotations

import html
import re

_PRE = re.compile(
    r"^[ \t]{0,20}<pre(?P<attributes>[ ][^<>\n]{0,200})?>(?!\s{0,9}<code)(?P<text>[^<]*(?:<(?!/?pre)[^<]*)*)</pre>",
    re.MULTILINE,
)
_BREAK = re.compile(r"<br ?/?>\n?")

# Quotes and accents, alone on a line with a label, as some keyboards and converters write a fence.
_TYPOGRAPHIC = re.compile(
    "^[ \\t]{0,20}[\u2018\u2019\u00b4\u2032\uff40]{3}(\\w{0,20})[ \\t]{0,20}$", re.MULTILINE
)

# Marks that are alone on their lines, and what opens a block of Python.
_OPENING = re.compile(
    r"^[ \t]{0,20}(?:\\begin\{(?:verbatim|lstlisting|minted|python)\}.{0,80}|\[code(?:=\w{1,20})?\]|\[python\]"
    r"|<(?:py|script|python_code|code_start|python_start)(?:[ ][^<>\n]{0,200})?>|[-=#]{2,9} ?begin (?:python )?code ?[-=#]{2,9})$",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSING = re.compile(
    r"^[ \t]{0,20}(?:\\end\{(?:verbatim|lstlisting|minted|python)\}|\[/code\]|\[/python\]"
    r"|</(?:py|script|python_code|code_start|python_start)>|<(?:code_end|python_end)>|[-=#]{2,9} ?end (?:python )?code ?[-=#]{2,9})$",
    re.IGNORECASE | re.MULTILINE,
)


def with_fences(text: str) -> str:
    """Returns a text without fences, with fences in the place of other marks. They have no label unless the mark has one."""
    if "```" in text:
        return text
    text = _TYPOGRAPHIC.sub(r"```\1", text)
    if "<pre" in text:
        text = _PRE.sub(_fence_for_pre, text)
    opening = _OPENING.search(text)
    closing = _CLOSING.search(text, opening.end()) if opening else None
    if opening is None or closing is None:
        return text
    label = "python" if "py" in opening[0].lower() else ""
    code = text[opening.end() : closing.start()].strip("\n")
    return f"{text[: opening.start()]}```{label}\n{code}\n```{text[closing.end() :]}"


def _fence_for_pre(match: re.Match[str]) -> str:
    label = "python" if "python" in (match["attributes"] or "").lower() else ""
    code = html.unescape(_BREAK.sub("\n", match["text"])).strip("\n")
    return f"```{label}\n{code}\n```"
