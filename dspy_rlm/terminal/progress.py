"""Shows the progress of a run on the terminal.

Code is shown as at Python's own prompt, with its output below. Colours are used only on a terminal.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import ClassVar, TextIO

from dspy_rlm.events import (
    ActionChosen,
    Event,
    HistoryCompacted,
    IterationStarted,
    RequestRetried,
    RunEnded,
    RunStarted,
    SoFar,
    StepTaken,
    SubCallProgress,
    SubCallStarted,
)
from dspy_rlm.prompts.history import NO_OUTPUT
from dspy_rlm.reports.text import count, running_total, summary
from dspy_rlm.terminal.escaping import printable
from dspy_rlm.values.previews import short_repr

# The maximum number of lines of one code, output or reasoning; the prediction has all of them.
MAX_CODE_LINES, MAX_OUTPUT_LINES, MAX_REASONING_LINES = 30, 16, 4

# A cell that calls other LMs prints a line after so many seconds without one.
QUIET_SECONDS = 5.0

# Columns if the width of the terminal is unknown, and the bounds of a readable width.
WIDTH = 100
MIN_WIDTH, MAX_WIDTH = 40, 120

INDENT = "    "
BOLD, DIM, RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Progress:
    """A sink that prints the events of one run to stderr.

    A sub-run is indented by its depth. Where several runs of a depth go on at the same time, each block names
    its run. While calls take long, a line says how many have ended.
    """

    _lock = threading.Lock()  # guards the two fields below, and keeps blocks apart
    _numbers = itertools.count(1)
    _active: ClassVar[dict[int, list[Progress]]] = {}

    def __init__(
        self, depth: int = 0, clock: Callable[[], float] = time.monotonic, *, plain: bool = False
    ) -> None:
        """Prints nothing yet. `clock` returns seconds; with `plain`, there are no colours on a terminal either."""
        self._depth = depth
        self._plain = plain
        self._clock = clock
        self._number = next(self._numbers)
        self._printed_at = clock()
        self._calls = 0  # single calls of the running cell

    def __call__(self, event: Event) -> None:
        """Prints an event."""
        with self._lock:
            others = self._active.setdefault(self._depth, [])
            if isinstance(event, RunStarted):
                others.append(self)
            label = f"run {self._number}" if len(others) > 1 else ""
            print_event(
                event, label=label, indent=self._depth, line=self._line(event), plain=self._plain
            )
            if isinstance(event, RunEnded) and self in others:
                others.remove(self)

    def _line(self, event: Event) -> str:
        """Returns the line for an event of a sub-call; empty if it is not worth one, or for other events."""
        now = self._clock()
        line = ""
        match event:
            case SubCallStarted(name=name, count=count) if count > 1:
                line = f"{name}: {count:,} calls"
            case SubCallStarted(name=name):
                self._calls += 1
                if now - self._printed_at >= QUIET_SECONDS:
                    line = f"{name}: call {self._calls:,} of this step"
            case SubCallProgress(name=name, done=done, count=count, seconds=seconds):
                if now - self._printed_at >= QUIET_SECONDS or (
                    done == count and seconds >= QUIET_SECONDS
                ):
                    line = f"{name}: {done:,} of {count:,}, {seconds:.0f} s"
            case ActionChosen():
                self._calls, self._printed_at = 0, now
        if line:
            self._printed_at = now
        return line


def print_event(
    event: Event, *, label: str = "", indent: int = 0, line: str = "", plain: bool = False
) -> None:
    """Prints an event to stderr.

    Args:
        event: The event.
        label: The name of the run, where several go on.
        indent: The depth of the run.
        line: The line for the progress of a sub-call.
        plain: True for no colours, also on a terminal.
    """
    stream = sys.stderr
    margin = INDENT * indent
    width = max(terminal_width(stream) - len(margin), MIN_WIDTH)
    colour = wants_colour(stream) and not plain
    text = render_event(event, width=width, colour=colour, label=label)
    if line:
        text = _indent(f"[{label}] {line}" if label else line, width)
    if text:
        text = textwrap.indent(text, margin) if margin else text
        print(text, file=stream, flush=True)


def render_event(event: Event, *, width: int = WIDTH, colour: bool = False, label: str = "") -> str:
    """Returns the lines for an event; none for an event that another one covers."""
    own = f"[{label}] " if label else ""
    match event:
        case IterationStarted() | SubCallStarted() | SubCallProgress():
            return ""
        case RunStarted(variables=variables):
            names = max((len(v.name) for v in variables), default=0)
            lines = [
                f"{v.name:<{names}}  {v.type_name}{f', {v.size}' if v.size else ''}"
                for v in variables
            ]
            return _indent("\n".join([*([own] if own else []), *lines]), width)
        case ActionChosen(number=number, reasoning=reasoning, code=code):
            heading = _heading(label, number, reasoning or "(no reasoning)", width)
            body = _at_prompt(code, width) if code else _indent("(no code)", width)
            return f"\n{_in(BOLD, heading, colour)}\n{_in(DIM, body, colour)}"
        case RequestRetried(number=number, error=error, seconds=seconds):
            again = f"sent again in {seconds:.0f} s" if seconds >= 1 else "sent again"
            return _indent(f"{own}turn {number}: {again}. {' '.join(error.split())}", width)
        case HistoryCompacted(number=number, steps=steps):
            return _indent(f"{own}turn {number}: {count(steps, 'older step')} shortened", width)
        case StepTaken(number=number, step=step, so_far=so_far):
            heading = f"{INDENT}[{label}, {number}]\n" if label else ""
            output = heading + _indent(step.output or NO_OUTPUT, width)
            if so_far is None:
                return output
            return f"{output}\n{_in(DIM, f'{INDENT}({_total(so_far)})', colour)}"
        case RunEnded(report=report, outputs=outputs):
            values = [
                f"{name} = {short_repr(value, MAX_WIDTH)}"
                for name, value in (outputs or {}).items()
            ]
            ending = f"{own}{printable(summary(report))}"
            return f"\n{_indent(chr(10).join([*values, ending]), width=MAX_WIDTH)}"


def _total(so_far: SoFar) -> str:
    return running_total(so_far.llm_calls, so_far.tokens, so_far.cost, so_far.seconds)


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


def _heading(run: str, number: int, reasoning: str, width: int) -> str:
    label = f"[{run}, {number}] " if run else f"[{number}] "
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
