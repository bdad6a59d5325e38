"""Repairs of code that does not compile, each for one way in which a reply is damaged on its way.

A repair is kept only if the result compiles: code that means something already is never changed.
"""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dspy_rlm.replies.fences import PYTHON_LABELS
from dspy_rlm.replies.python_source import (
    Work,
    does_something,
    outside_strings,
    spans,
    starts_of_lines_outside_strings,
)
from dspy_rlm.values.python_text import literal


class Repaired(NamedTuple):
    """Code, the names of the repairs that were made, and lines that were taken out."""

    code: str
    repairs: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def repaired(code: str, work: Work) -> Repaired:
    """Returns the code, repaired where it does not compile and a repair helps."""
    result = _repaired(without_special_tokens(code), work)
    plain = _without_label(result.code)
    if plain is not None and (tree := work.tree(plain)) and does_something(tree):
        return result._replace(code=plain)
    return result


def _repaired(code: str, work: Work) -> Repaired:
    if _has_prompts(code):
        plain = _without_prompts(code)
        if work.compiles(plain):
            return Repaired(plain, ("prompts",))
    if (tree := work.tree(code)) is not None:
        unquoted = _unquoted(code) if not does_something(tree) else None
        if unquoted is not None and (inner := work.tree(unquoted)) and does_something(inner):
            return Repaired(unquoted, ("quoted_code",))
        return Repaired(code)
    for names, changed in _attempts(code):
        if changed is not None and changed != code and work.compiles(changed):
            return Repaired(changed, names)
    plain, removed = without_shell_lines(code)
    if removed and plain.strip():
        if work.compiles(plain):
            return Repaired(plain, ("shell_lines",), removed)
        for names, changed in _attempts(plain):
            if changed is not None and work.compiles(changed):
                return Repaired(changed, ("shell_lines", *names), removed)
    return Repaired(code)


_Repair = Callable[[str], "str | None"]


def _attempts(code: str) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yields the code after each repair, and after those that occur together."""
    for name, repair in _REPAIRS.items():
        yield (name,), repair(code)
    for first in ("blanks", "punctuation", "escapes", "entities", "indentation"):
        once = _REPAIRS[first](code)
        if once is None or once == code:
            continue
        for second, repair in _REPAIRS.items():
            if second != first:
                yield (first, second), repair(once)


# ---- The repairs -------------------------------------------------------------------------------------

# Characters that look like a blank or like nothing, and are no blanks to Python. U+FEFF is the byte order mark.
_BLANKS = dict.fromkeys(
    map(ord, "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"), " "
)
_NOTHING = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"))
_LINE_ENDS = {0x2028: "\n", 0x2029: "\n", 0x85: "\n"}
_TRANSLATED = {**_BLANKS, **_NOTHING, **_LINE_ENDS}


def _with_plain_blanks(code: str) -> str | None:
    """Replaces blanks of other kinds, and removes characters of no width, outside of strings."""
    return outside_strings(code, lambda part: part.translate(_TRANSLATED))


# Full-width forms of ASCII, as input methods for Chinese and Japanese write them, and signs that look like a minus.
_PUNCTUATION = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "\u2212\u2013\u2010\u2011"), "-"),
    0x3001: ",",
}


def _with_plain_punctuation(code: str) -> str | None:
    """Replaces full-width characters outside of strings."""
    return outside_strings(code, lambda part: part.translate(_PUNCTUATION))


# Typographic quotes, each with those that may close it: U+201C to U+201E are double, U+2018 to U+201A single.
_QUOTES = {
    "\u201c": "\u201d\u201c", "\u201d": "\u201d", "\u201e": "\u201c\u201d",
    "\u2018": "\u2019\u2018", "\u2019": "\u2019", "\u201a": "\u2018\u2019", "\u00ab": "\u00bb",
}  # fmt: skip


_QUOTED = {
    opening: re.compile(rf"(?P<text>[^\n{closing}]*)[{closing}]")
    for opening, closing in _QUOTES.items()
}


def _with_straight_quotes(code: str) -> str | None:
    """Replaces typographic quotes that delimit strings."""
    if not any(quote in code for quote in _QUOTES):
        return None
    result: list[str] = []
    plain = {span.start: span.end for span in spans(code) if span.is_closed}
    at = 0
    while at < len(code):
        if at in plain or code[at] not in _QUOTED:
            end = plain.get(at, at + 1)
            result.append(code[at:end])
            at = end
            continue
        match = _QUOTED[code[at]].match(code, at + 1)
        if match is None:
            return None
        text = match["text"]
        quote = '"' if '"' not in text else "'"
        if quote in text:
            return None
        result.append(f"{quote}{text}{quote}")
        at = match.end()
    return "".join(result)


_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)"')


def with_single_escapes(code: str) -> str | None:
    """Undoes escapes of line ends and quotes that were made once too often."""
    if "\\" not in code:
        return None
    if ("\n" not in code.strip() and "\\n" in code) or '\\"' in code or "\\u00" in code:
        try:
            text = _QUOTE.sub(r'\1\\"', code).replace("\n", "\\n").replace("\t", "\\t")
            value = json.loads(f'"{text}"', strict=False)
        except ValueError:
            return code.replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t")
        return value if isinstance(value, str) else None
    return None


_MARKDOWN = re.compile(r"\\([_*\[\]#`])")


def _without_markdown(code: str) -> str | None:
    """Removes backslashes that Markdown needs in front of characters, outside of strings."""
    if "\\" not in code:
        return None
    return outside_strings(code, lambda part: _MARKDOWN.sub(r"\1", part))


_ESCAPED_LINE_END = re.compile(r"\\r\\n|\\n")


def _with_line_ends(code: str) -> str | None:
    """Replaces each `\\n` outside of strings by the line end that it stands for."""
    if "\\n" not in code:
        return None
    return outside_strings(
        code, lambda part: _ESCAPED_LINE_END.sub("\n", part).replace("\\t", "\t")
    )


_AMPERSANDS = re.compile(r"&(?:amp;)+(?=#?\w{1,9};)")

# Python converts no number of thousands of digits, and there is no such character.
_NO_CHARACTER = re.compile(r"(&#[0-9]{8,})")


def _without_entities(code: str) -> str | None:
    """Replaces HTML entities, also those that were escaped twice."""
    if "&" not in code or ";" not in code:
        return None
    parts = _NO_CHARACTER.split(_AMPERSANDS.sub("&", code))
    parts[::2] = map(html.unescape, parts[::2])
    return "".join(parts)


def _without_indentation(code: str) -> str | None:
    """Removes an indentation that all lines share, but perhaps the first."""
    plain = textwrap.dedent(code.expandtabs(8) if "\t" in code else code)
    if plain != code:
        return plain
    first, _, rest = code.partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}" if rest else None


_INDENTATION = re.compile(r"^[ \t]+", re.MULTILINE)


def _with_spaces(code: str) -> str | None:
    """Replaces tabs in the indentation."""
    return _INDENTATION.sub(lambda match: match[0].expandtabs(4), code)


_LINE_NUMBER = re.compile(r"^[ \t]*\d+[ \t]*[:|][ ]?|^[ \t]*\d+\t")


def _without_line_numbers(code: str) -> str | None:
    """Removes line numbers."""
    lines = [line for line in code.split("\n") if line.strip()]
    numbers = [_LINE_NUMBER.match(line) for line in lines]
    if not lines or not all(numbers):
        return None
    return "\n".join(_LINE_NUMBER.sub("", line) for line in code.split("\n"))


_STRAY_OPENING = re.compile(r"[ \t]*(?:`{1,}|~{3,})\w*[ \t]*")
_STRAY_CLOSING = re.compile(r"[ \t]*(?:`{1,}|~{3,})[ \t]*")


def _without_stray_fences(code: str) -> str | None:
    """Removes a fence that is left at the beginning or the end."""
    lines = code.strip().split("\n")
    if len(lines) == 1 and lines[0].startswith("`") and lines[0].endswith("`"):
        return lines[0].strip("`")
    first, end = 0, len(lines)
    while first < end and _STRAY_OPENING.fullmatch(lines[first]):
        first += 1
    while first < end and _STRAY_CLOSING.fullmatch(lines[end - 1]):
        end -= 1
    if (first, end) == (0, len(lines)):
        return code.strip().strip("`")
    return "\n".join(lines[first:end]) if first < end else None


def _without_diff(code: str) -> str | None:
    """Removes the `+` in front of each line."""
    lines = code.split("\n")
    return (
        "\n".join(line[1:] for line in lines)
        if all(line.startswith("+") for line in lines)
        else None
    )


_REPAIRS: dict[str, _Repair] = {
    "blanks": _with_plain_blanks,
    "punctuation": _with_plain_punctuation,
    "indentation": _without_indentation,
    "fences": _without_stray_fences,
    "quotes": _with_straight_quotes,
    "entities": _without_entities,
    "escapes": with_single_escapes,
    "markdown": _without_markdown,
    "line_ends": _with_line_ends,
    "tabs": _with_spaces,
    "line_numbers": _without_line_numbers,
    "diff": _without_diff,
}

_SPECIAL_TOKENS = re.compile(
    r"(?:(?:<\|[\w/ -]{1,40}\|>|<\uff5c[\w\u2581]{1,40}\uff5c>|</s>|<end_of_turn>|<eos>|\[/INST\])\s{0,9}){1,9}\Z"
)


def without_special_tokens(code: str) -> str:
    """Removes tokens of chat templates at the end."""
    end = len(code.rstrip())
    match = _SPECIAL_TOKENS.search(code[max(end - 400, 0) : end])
    return code if match is None else code[: max(end - 400, 0) + match.start()].rstrip()


_INPUT_LINE = re.compile(r"(?:>>> ?|(?:\.\.\.|In \[\d+\]:|\s{2,}\.\.\.:)(?: |$))")
_PROMPT = re.compile(r"^(?:>>> ?|In \[\d+\]: )", re.MULTILINE)


def _has_prompts(code: str) -> bool:
    return _PROMPT.match(code.lstrip("\n")) is not None


def _without_prompts(code: str) -> str:
    """Returns the input lines of an interactive session."""
    lines = []
    for line in code.split("\n"):
        match = _INPUT_LINE.match(line)
        if match:
            lines.append(line[match.end() :])
    return "\n".join(lines)


def _without_label(code: str) -> str | None:
    """Returns the code without a first line that is the label of a lost fence."""
    lines = code.lstrip("\n").split("\n")
    first = next(
        (n for n, line in enumerate(lines) if line.strip().lower() not in PYTHON_LABELS), 0
    )
    rest = "\n".join(lines[first:])
    return rest if first and rest.strip() else None


def _unquoted(code: str) -> str | None:
    """Returns the code in a string literal, or in a list of lines."""
    text = code.strip()
    if not text.startswith(("[", '"', "'")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = literal(text)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            return None
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return "\n".join(line.rstrip("\n") for line in value)
    return value if isinstance(value, str) else None


# ---- Shell lines -------------------------------------------------------------------------------------

_SHELL = re.compile(
    r"[ \t]*(?:%%?[a-zA-Z]\w*\b|!{1,2}[ \t]*\w|\w{1,40}[ \t]{0,9}=[ \t]{0,9}(?:%[a-zA-Z]|!)\w)"
)
_BARE_SHELL = re.compile(
    r"[ \t]*(?:\$ |(?:pip3?|conda|apt-get|apt|npm)[ \t]+install[ \t]|\?{1,2}[\w.]{1,80}$|[\w.]{1,80}\?{1,2}$)"
)

# Magic that runs the statement after it.
_TIMING = re.compile(
    r"(?P<indent>[ \t]*)%(?:time|timeit|prun)[ \t]+(?:-\w[ \t]{0,9}\d{0,9}[ \t]+){0,4}(?P<statement>[^\s%!-].*)"
)


def without_shell_lines(code: str) -> tuple[str, tuple[str, ...]]:
    """Removes lines of IPython's magic and of a shell; returns the code and those lines."""
    starts = starts_of_lines_outside_strings(code)
    kept, removed, at = list[str](), list[str](), 0
    for line in code.split("\n"):
        is_outside = at in starts
        timed = _TIMING.fullmatch(line) if is_outside else None
        if timed is not None:
            removed.append(line.split()[0])
            kept.append(timed["indent"] + timed["statement"])
        elif is_outside and (_SHELL.match(line) or _BARE_SHELL.match(line)):
            removed.append(line.strip())
            indent = line[: len(line) - len(line.lstrip())]
            kept.append(f"{indent}pass" if indent else "")
        else:
            kept.append(line)
        at += len(line) + 1
    return "\n".join(kept), tuple(removed)
