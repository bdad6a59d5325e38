"""Replies without a fence: prose and the code after it."""

from __future__ import annotations

import re
import textwrap

from dspy_rlm.replies.python_source import Work, does_something
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
            or (n and (not lines[n - 1].strip() or lines[n - 1].rstrip().endswith((":", ": |"))))
        )
    ]
    for start in starts[:_MAX_PARAGRAPHS]:
        code = "\n".join([_INPUT.sub("", lines[start]), *lines[start + 1 :]]).strip("\n")
        if code.startswith((" ", "\t")):
            code = textwrap.dedent(code)
        tree = work.tree(code)
        if tree is not None and does_something(tree):
            return "\n".join(lines[:start]).strip(), code, invented is not None
    return None


_SENTENCE = re.compile(r"[A-Z\"'*#-]?[\w'*]+(?:,? [\w'\"`*()-]+){3,}[.:!?,]?$")


def is_prose(text: str) -> bool:
    """Returns whether the text is rather prose than code: its lines read as sentences."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    sentences = sum(bool(_SENTENCE.match(line)) for line in lines[:50])
    return sentences * 2 >= len(lines[:50])
