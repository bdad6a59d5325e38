"""Shows the progress of a run on the terminal.

Code is shown as at Python's own prompt, with its output below. Colours are used only on a terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TextIO

from dspy_rlm.events import (
    ActionChosen,
    Event,
    IterationStarted,
    RunEnded,
    RunStarted,
    StepTaken,
    SubCallStarted,
)
from dspy_rlm.prompts.history import NO_OUTPUT
from dspy_rlm.report_text import summary
from dspy_rlm.terminal.escaping import printable

# The maximum number of lines of one code, output or reasoning; the prediction has all of them.
MAX_CODE_LINES, MAX_OUTPUT_LINES, MAX_REASONING_LINES = 30, 16, 4

# Columns if the width of the terminal is unknown, and the bounds of a readable width.
WIDTH = 100
MIN_WIDTH, MAX_WIDTH = 40, 120

INDENT = "    "
BOLD, DIM, RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def print_event(event: Event) -> None:
    """Prints an event to stderr."""
    stream = sys.stderr
    text = render_event(event, width=terminal_width(stream), colour=wants_colour(stream))
    if text:
        print(text, file=stream, flush=True)


def render_event(event: Event, *, width: int = WIDTH, colour: bool = False) -> str:
    """Returns the lines for an event; none for an event that another one covers."""
    match event:
        case IterationStarted() | SubCallStarted():
            return ""
        case RunStarted(variables=variables):
            names = max((len(v.name) for v in variables), default=0)
            lines = [
                f"{v.name:<{names}}  {v.type_name}{f', {v.size}' if v.size else ''}"
                for v in variables
            ]
            return _indent("\n".join(lines), width)
        case ActionChosen(number=number, reasoning=reasoning, code=code):
            heading = _heading(number, reasoning or "(no reasoning)", width)
            body = _at_prompt(code, width) if code else _indent("(no code)", width)
            return f"\n{_in(BOLD, heading, colour)}\n{_in(DIM, body, colour)}"
        case StepTaken(step=step):
            return _indent(step.output or NO_OUTPUT, width)
        case RunEnded(report=report):
            return f"\n{INDENT}{printable(summary(report))}"


def wants_colour(stream: TextIO) -> bool:
    """Returns True for a terminal, unless NO_COLOR is set (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def terminal_width(stream: TextIO) -> int:
    """Returns the number of columns to use."""
    if not stream.isatty():
        return WIDTH
    columns = shutil.get_terminal_size((WIDTH, 24)).columns
    return max(MIN_WIDTH, min(columns, MAX_WIDTH))


def _heading(number: int, reasoning: str, width: int) -> str:
    label = f"[{number}] "
    return "\n".join(
        textwrap.wrap(
            # More than fits into the lines: wrapping a whole long text is slow.
            printable(" ".join(reasoning[: 8 * MAX_WIDTH * MAX_REASONING_LINES].split())),
            width,
            initial_indent=label,
            subsequent_indent=" " * len(label),
            max_lines=MAX_REASONING_LINES,
            placeholder=" ...",
        )
    )


def _at_prompt(code: str, width: int) -> str:
    """Returns code as at Python's prompt."""
    lines = _shorten(code, MAX_CODE_LINES, width - len(INDENT) - 4).split("\n")
    marks = [">>>", *["..."] * (len(lines) - 1)]
    body = (f"{INDENT}{mark} {line}" for mark, line in zip(marks, lines, strict=True))
    return "\n".join(line.rstrip() for line in body)


def _indent(text: str, width: int) -> str:
    return textwrap.indent(_shorten(text, MAX_OUTPUT_LINES, width - len(INDENT)), INDENT)


def _shorten(text: str, most: int, width: int) -> str:
    lines = printable(text.strip("\n")).split("\n")
    if len(lines) > most:
        lines = [*lines[: most - 1], f"({len(lines) - most + 1:,} more lines)"]
    return "\n".join(line if len(line) <= width else f"{line[: width - 4]} ..." for line in lines)


def _in(style: str, text: str, colour: bool) -> str:
    """Returns the text in a style, line by line, so that a pager keeps it."""
    if not colour:
        return text
    return "\n".join(f"{style}{line}{RESET}" for line in text.split("\n"))
