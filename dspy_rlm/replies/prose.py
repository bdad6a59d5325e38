"""Replies without a fence: prose and the code after it."""

from __future__ import annotations

import re
import textwrap

from dspy_rlm.replies.python_source import Work, does_something
from dspy_rlm.replies.repairs import repaired
from dspy_rlm.replies.several import OUTPUT

# A cell of prose and code is split at one of so many paragraphs.
_MAX_PARAGRAPHS = 40


# The beginning of a line of code in the format of ReAct.
_INPUT = re.compile(
    r"^[ \t]*(?:action input|code|python|command)[ \t]*:[ \t]*(?=\S)", re.IGNORECASE
)


def code_after_prose(text: str, work: Work) -> tuple[str, str, bool] | None:
    """Splits text without a fence into prose and the code after it; None if no part is clearly code.

    What follows the code is left out if it pretends that the code was run.
    """
    invented = OUTPUT.search(text)
    if invented is not None and invented.start() > 0:
        text = text[: invented.start()]
        tree = work.tree(text.strip("\n"))
        if tree is not None and does_something(tree):
            return "", text.strip("\n"), True
    lines = text.split("\n")
    starts = [
        n
        for n in range(len(lines))
        if lines[n].strip()
        and (
            _INPUT.match(lines[n])
            or (n and (not lines[n - 1].strip() or _ANNOUNCES.search(lines[n - 1][-20:])))
        )
    ]
    end = _end_of_code(lines)
    for start in [*starts[:_MAX_PARAGRAPHS], *([0] if end < len(lines) else [])]:
        code = "\n".join([_INPUT.sub("", lines[start]), *lines[start + 1 : end]]).strip("\n")
        if code.startswith((" ", "\t")):
            code = textwrap.dedent(code)
        if code.startswith(">>>") and work.affords(len(code)):
            code = repaired(code, work).code
        tree = work.tree(code)
        if tree is not None and does_something(tree):
            return "\n".join(lines[:start]).strip(), code, invented is not None
    return None


# The end of a line before code: a colon, perhaps with a mark of YAML for a text.
_ANNOUNCES = re.compile(r":(?: [|>][+-]?)?\s*$")


def _end_of_code(lines: list[str]) -> int:
    """Returns the line after the code: paragraphs of prose at the end are left out."""
    end = len(lines)
    for n in range(len(lines) - 1, 0, -1):
        if lines[n].strip() or not any(line.strip() for line in lines[n:end]):
            continue
        if end - n > _MAX_PROSE_LINES or not is_prose("\n".join(lines[n:end])):
            return end
        end = n
    return end


# A paragraph of prose after code has at most so many lines.
_MAX_PROSE_LINES = 20


_SENTENCE = re.compile(r"[A-Z\"'*#-]?[\w'*]+(?:,? [\w'\"`*()-]+){3,}[.:!?,]?$")


def is_prose(text: str) -> bool:
    """Returns whether the text is rather prose than code: its lines read as sentences."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    sentences = sum(bool(_SENTENCE.match(line)) for line in lines[:50])
    return sentences * 2 >= len(lines[:50])
