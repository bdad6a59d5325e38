"""Repairs of code that does not compile, each for one way in which a reply is damaged on its way.

A repair is kept only if the result compiles: code that means something already is never changed.
"""

from __future__ import annotations

import ast
import html
import json
import re
import textwrap
from collections.abc import Callable
from typing import NamedTuple

from dspy_rlm.replies.fences import PYTHON_LABELS
from dspy_rlm.replies.python_source import (
    Work,
    does_something,
    outside_strings,
    spans,
    starts_of_lines_outside_strings,
)


class Repaired(NamedTuple):
    """Code, the names of the repairs that were made, and lines that were taken out."""

    code: str
    repairs: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def repaired(code: str, work: Work) -> Repaired:
    """Returns the code, repaired where it does not compile and a repair helps."""
    code = _without_special_tokens(code)
    if _has_prompts(code):
        plain = _without_prompts(code)
        if work.compiles(plain):
            return Repaired(plain, ("prompts",))
    if (tree := work.tree(code)) is not None:
        relabelled = _without_label(code)
        if relabelled is not None and (rest := work.tree(relabelled)) and does_something(rest):
            return Repaired(relabelled)
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


def _attempts(code: str) -> list[tuple[tuple[str, ...], str | None]]:
    """Returns the code after each repair, and after those that occur together."""
    attempts: list[tuple[tuple[str, ...], str | None]] = []
    for name, repair in _REPAIRS.items():
        changed = repair(code)
        attempts.append(((name,), changed))
    for first in ("blanks", "escapes", "entities", "indentation"):
        once = _REPAIRS[first](code)
        if once is None or once == code:
            continue
        for second, repair in _REPAIRS.items():
            if second != first:
                attempts.append(((first, second), repair(once)))
    return attempts


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


# Typographic quotes, each with those that may close it: U+201C to U+201E are double, U+2018 to U+201A single.
_QUOTES = {
    "\u201c": "\u201d\u201c", "\u201d": "\u201d", "\u201e": "\u201c\u201d",
    "\u2018": "\u2019\u2018", "\u2019": "\u2019", "\u201a": "\u2018\u2019", "\u00ab": "\u00bb",
}  # fmt: skip


def _with_straight_quotes(code: str) -> str | None:
    """Replaces typographic quotes that delimit strings."""
    if not any(quote in code for quote in _QUOTES):
        return None
    result: list[str] = []
    plain = {span.start: span.end for span in spans(code) if span.is_closed}
    at = 0
    while at < len(code):
        closing = _QUOTES.get(code[at])
        if at in plain or closing is None:
            end = plain.get(at, at + 1)
            result.append(code[at:end])
            at = end
            continue
        line_end = code.find("\n", at)
        line = code[at + 1 : line_end if line_end >= 0 else len(code)]
        length = next((n for n, char in enumerate(line) if char in closing), None)
        if length is None:
            return None
        text = line[:length]
        quote = '"' if '"' not in text else "'"
        if quote in text:
            return None
        result.append(f"{quote}{text}{quote}")
        at += length + 2
    return "".join(result)


def _with_single_escapes(code: str) -> str | None:
    """Undoes escapes of line ends and quotes that were made once too often."""
    if "\\" not in code:
        return None
    if ("\n" not in code.strip() and "\\n" in code) or '\\"' in code:
        try:
            text = (
                re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', code)
                .replace("\n", "\\n")
                .replace("\t", "\\t")
            )
            value = json.loads(f'"{text}"', strict=False)
        except ValueError:
            return code.replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t")
        return value if isinstance(value, str) else None
    return None


def _with_line_ends(code: str) -> str | None:
    """Replaces each `\\n` outside of strings by the line end that it stands for."""
    if "\\n" not in code:
        return None
    return outside_strings(
        code, lambda part: re.sub(r"\\r?\\n|\\n", "\n", part).replace("\\t", "\t")
    )


def _without_entities(code: str) -> str | None:
    """Replaces HTML entities."""
    return html.unescape(code) if "&" in code and ";" in code else None


def _without_indentation(code: str) -> str | None:
    """Removes an indentation that all lines share, but perhaps the first."""
    plain = textwrap.dedent(code.expandtabs(8) if "\t" in code else code)
    if plain != code:
        return plain
    first, _, rest = code.partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}" if rest else None


def _with_spaces(code: str) -> str | None:
    """Replaces tabs in the indentation."""
    return re.sub(r"^[ \t]+", lambda match: match[0].expandtabs(4), code, flags=re.MULTILINE)


def _without_line_numbers(code: str) -> str | None:
    """Removes line numbers."""
    lines = [line for line in code.split("\n") if line.strip()]
    pattern = re.compile(r"^[ \t]*(\d+)[ \t]*[:|][ ]?|^[ \t]*(\d+)\t")
    numbers = [pattern.match(line) for line in lines]
    if not lines or not all(numbers):
        return None
    return "\n".join(pattern.sub("", line) for line in code.split("\n"))


def _without_stray_fences(code: str) -> str | None:
    """Removes a fence that is left at the beginning or the end."""
    lines = code.strip().split("\n")
    while lines and re.fullmatch(r"[ \t]*(?:`{1,}|~{3,})\w*[ \t]*", lines[0]):
        lines.pop(0)
    while lines and re.fullmatch(r"[ \t]*(?:`{1,}|~{3,})[ \t]*", lines[-1]):
        lines.pop()
    return "\n".join(lines) if lines else None


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
    "indentation": _without_indentation,
    "fences": _without_stray_fences,
    "quotes": _with_straight_quotes,
    "entities": _without_entities,
    "escapes": _with_single_escapes,
    "line_ends": _with_line_ends,
    "tabs": _with_spaces,
    "line_numbers": _without_line_numbers,
    "diff": _without_diff,
}

_SPECIAL_TOKEN = re.compile(
    r"(?:<\|[\w/ -]{1,40}\|>|<\uff5c[\w\u2581]{1,40}\uff5c>|</s>|<end_of_turn>|<eos>|\[/INST\])\Z"
)


def _without_special_tokens(code: str) -> str:
    """Removes tokens of chat templates at the end."""
    plain = code
    while (
        match := _SPECIAL_TOKEN.search(plain.rstrip(), max(len(plain.rstrip()) - 60, 0))
    ) is not None:
        plain = plain[: match.start()]
    return plain if plain == code else plain.rstrip()


_PROMPT = re.compile(r"^(?:>>> ?|In \[\d+\]: )", re.MULTILINE)


def _has_prompts(code: str) -> bool:
    return _PROMPT.match(code.lstrip("\n")) is not None


def _without_prompts(code: str) -> str:
    """Returns the input lines of an interactive session."""
    lines = []
    for line in code.split("\n"):
        match = re.match(r"(?:>>>|\.\.\.|In \[\d+\]:|\s{2,}\.\.\.:)(?: |$)", line)
        if match:
            lines.append(line[match.end() :])
    return "\n".join(lines)


def _without_label(code: str) -> str | None:
    """Returns the code without a first line that is the label of a lost fence."""
    first, _, rest = code.lstrip("\n").partition("\n")
    return rest if first.strip().lower() in PYTHON_LABELS and rest.strip() else None


def _unquoted(code: str) -> str | None:
    """Returns the code in a string literal, or in a list of lines."""
    text = code.strip()
    if not text.startswith(("[", '"', "'")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            return None
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return "\n".join(line.rstrip("\n") for line in value)
    return value if isinstance(value, str) else None


# ---- Shell lines -------------------------------------------------------------------------------------

_SHELL = re.compile(r"[ \t]*(?:%%?[a-zA-Z]\w*\b|!{1,2}[ \t]*\w)")
_BARE_SHELL = re.compile(r"[ \t]*(?:\$ |(?:pip3?|conda|apt-get|apt|npm)[ \t]+install[ \t])")


def without_shell_lines(code: str) -> tuple[str, tuple[str, ...]]:
    """Removes lines of IPython's magic and of a shell; returns the code and those lines."""
    starts = starts_of_lines_outside_strings(code)
    kept, removed, at = list[str](), list[str](), 0
    for line in code.split("\n"):
        is_shell = at in starts and (_SHELL.match(line) or _BARE_SHELL.match(line))
        if is_shell:
            removed.append(line.strip())
            indent = line[: len(line) - len(line.lstrip())]
            kept.append(f"{indent}pass" if indent else "")
        else:
            kept.append(line)
        at += len(line) + 1
    return "\n".join(kept), tuple(removed)
