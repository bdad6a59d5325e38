"""Renders the state of a run as a tree of lines with styles, by rich. Decides which lines fit; draws nothing.

A finished step is rendered once, and kept. All text of code, models and servers is escaped by `printable`, and cut before
that: a line costs no more than its width, whatever is in it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from dspy_rlm.live.state import CallSite, RunView, StepView
from dspy_rlm.live.words import (
    duration,
    figures,
    gauges,
    heading,
    inputs,
    phase,
    site_text,
    sub_runs_text,
    times,
    title,
)
from dspy_rlm.terminal.escaping import printable
from dspy_rlm.values.previews import short_repr

# The lines of code and of output, of the running step and of those before it.
MAX_CODE_LINES, MAX_OUTPUT_LINES = 30, 16
LIVE_CODE_LINES, LIVE_OUTPUT_LINES = 14, 6
MAX_SITES, MAX_SUB_RUNS = 6, 4
BAR_CELLS = 24

DIM, BOLD, GOOD, BAD, WARN, RUNS = "dim", "bold", "green", "red", "yellow", "bold cyan"

Line = Text


class Glyphs:
    """The characters of the tree; ASCII where the stream has no others."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        self.branch, self.last, self.pipe = (
            ("|- ", "`- ", "|  ") if ascii_only else ("├─ ", "╰─ ", "│  ")
        )
        self.full, self.empty = ("#", "-") if ascii_only else ("━", "─")
        self.arrow = ">" if ascii_only else "▶"
        self.good, self.bad = ("ok", "x") if ascii_only else ("✓", "✗")
        self.dots = "..." if ascii_only else "…"
        self.spinner = "|/-\\" if ascii_only else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        self.dot = "|" if ascii_only else "·"


class RichTree:
    """Renders trees of runs for one width at a time."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        """Creates an empty cache of rendered lines."""
        self._glyphs = Glyphs(ascii_only=ascii_only)
        # The lines of finished steps, which change no more: by number, width, and the most lines of code and of output.
        self._kept: dict[tuple[int, int, int, int], list[Line]] = {}
        self._code: tuple[tuple[int, str, int], list[Line]] | None = None
        # The rows of the running code, by what they depend on.
        self._rows: tuple[tuple[object, ...], list[Line]] | None = None

    def live(self, run: RunView, now: float, width: int, height: int) -> list[Line]:
        """Returns the lines of a run in progress that fit into a height: the running step, and steps before it."""
        foot = self._foot(run, now, width)
        room = max(height - len(foot) - 1, 1)
        body = self._running(run, now, width, room)
        earlier = self._earlier(run.steps[:-1], now, width, room - len(body))
        return [self._head(run, width), *earlier, *body, *foot][:height]

    def _earlier(self, steps: Sequence[StepView], now: float, width: int, room: int) -> list[Line]:
        """Returns the lines of earlier steps that fit: the last step whole, one line for each other."""
        shown: list[Line] = []
        for at, step in enumerate(reversed(steps)):
            left = len(steps) - at - 1
            lines = self._finished(step, now, width, 0, 0)
            if at == 0:
                whole = self._finished(step, now, width, LIVE_CODE_LINES, LIVE_OUTPUT_LINES)
                lines = whole if len(whole) + min(left, 3) <= room else lines
            if len(shown) + len(lines) + (left > 0) > room:
                more = f"{self._glyphs.dots} {left + 1} earlier iteration{'s' if left else ''}"
                return [
                    *([self._row(self._glyphs.branch, more, DIM, width)] * (room > len(shown))),
                    *shown,
                ]
            shown = [*lines, *shown]
        return shown

    def final(self, run: RunView, now: float, width: int) -> list[Line]:
        """Returns all lines of a finished run."""
        lines = [self._head(run, width)]
        for step in run.steps:
            lines += self._whole(step, now, width, MAX_CODE_LINES, MAX_OUTPUT_LINES)
        for name, value in (run.outputs or {}).items():
            text = short_repr(value, 4 * width) if not isinstance(value, str) else value
            first, *more = printable(text[: 8 * width]).split("\n")
            line = Text.assemble((f"{name} = ", BOLD), (first, ""))
            if more or len(text) > 8 * width:
                line.append(f" {self._glyphs.dots}", DIM)
            lines.append(self._cut(Text.assemble(self._glyphs.branch, line), width))
        mark = (self._glyphs.bad, BAD) if run.failed else (self._glyphs.good, GOOD)
        end = Text.assemble(self._glyphs.last, mark, " ", (printable(phase(run)), BOLD))
        lines += [self._cut(end, width), self._times(run, now, width)]
        return lines

    # ---- The parts ----

    def _head(self, run: RunView, width: int) -> Line:
        line = Text.assemble((printable(title(run)), BOLD))
        for name, text in inputs(run):
            line.append(f"  {printable(name)} {printable(text)}", DIM)
        return self._cut(line, width)

    def _foot(self, run: RunView, now: float, width: int) -> list[Line]:
        glyphs = self._glyphs
        turn = glyphs.spinner[int(now * 8) % len(glyphs.spinner)]
        style = WARN if run.stopping else RUNS
        where = Text.assemble(glyphs.last, (turn, style), " ", (printable(phase(run)), style))
        lines = [self._cut(where, width)]
        line = Text("   ")
        for gauge in gauges(run, now):
            piece = Text.assemble((f"{gauge.name} ", DIM))
            if gauge.share is not None:
                level = GOOD if gauge.share < 0.7 else WARN if gauge.share < 0.9 else BAD
                piece.append_text(self._bar(gauge.share, 8, level)).append(" ")
            piece.append(gauge.text)
            if cell_len(line.plain) > 3:
                if cell_len(line.plain) + cell_len(piece.plain) + 3 > width:
                    lines.append(self._cut(line, width))
                    line = Text("   ")
                else:
                    line.append(f" {glyphs.dot} ", DIM)
            line.append_text(piece)
        lines.append(self._cut(line, width))
        lines.append(self._times(run, now, width))
        return lines

    def _times(self, run: RunView, now: float, width: int) -> Line:
        line = Text("   ").append("time by part  ", DIM)
        for part, seconds in times(run, now):
            line.append(f"{part} ", DIM).append(f"{duration(seconds)}   ")
        return self._cut(line, width)

    def _running(self, run: RunView, now: float, width: int, room: int) -> list[Line]:
        step = run.step
        if step is None:
            return []
        if step.ended is not None:  # between two turns
            return self._finished(step, now, width, LIVE_CODE_LINES, LIVE_OUTPUT_LINES)[:room]
        under = self._below(step, now, width)
        lines = [self._heading(step, now, width, self._glyphs.branch)]
        code = max(room - len(under) - 1, 3)
        lines += self._code_lines(step, width, min(LIVE_CODE_LINES, code))
        return (lines + under)[: max(room, 1)]

    def _finished(
        self, step: StepView, now: float, width: int, code: int, output: int
    ) -> list[Line]:
        """Returns a step that is over: whole, or its first line alone with no lines of code."""
        key = step.number, width, code, output
        if key not in self._kept:
            self._kept[key] = (
                self._whole(step, now, width, code, output)
                if code
                else [self._heading(step, now, width, self._glyphs.branch)]
            )
        return self._kept[key]

    def _whole(self, step: StepView, now: float, width: int, code: int, output: int) -> list[Line]:
        pipe = self._glyphs.pipe
        lines = [self._heading(step, now, width, self._glyphs.branch)]
        lines += self._code_lines(step, width, code)
        lines += self._below(step, now, width)
        shown = _lines(step.output, output, width)
        style = BAD if step.failed else ""
        lines += [self._cut(Text.assemble(pipe, "  ", (one, style)), width) for one in shown]
        return lines

    def _heading(self, step: StepView, now: float, width: int, guide: str) -> Line:
        glyphs = self._glyphs
        mark, style = (
            (glyphs.arrow, RUNS)
            if step.ended is None
            else (glyphs.bad, BAD)
            if step.failed
            else (glyphs.good, GOOD)
        )
        tail = f"  {figures(step, now)}"
        line = Text.assemble(guide, (mark, style), (f" [{step.number}] ", BOLD))
        room = max(width - cell_len(line.plain) - cell_len(tail), 10)
        reasoning = printable(heading(step)[: 4 * width])
        line.append(self._fitted(reasoning, room), BOLD if step.ended is None else "")
        return self._cut(line.append(tail, DIM), width)

    def _code_lines(self, step: StepView, width: int, most: int) -> list[Line]:
        if not step.code:
            return []
        key = step.number, step.code, step.line, step.failed, step.ended, width, most
        if self._rows is None or self._rows[0] != key:
            self._rows = key, self._numbered(step, width, most)
        return self._rows[1]

    def _numbered(self, step: StepView, width: int, most: int) -> list[Line]:
        lines = self._highlighted(step, width)
        current = step.line
        # The running line stays visible.
        first = min(max(current - 1 - most // 2, 0), max(len(lines) - most, 0))
        rows = []
        digits = len(str(min(first + most, len(lines))))
        for at, code in enumerate(lines[first : first + most], first + 1):
            is_current = at == current
            mark = ("  ", "")
            if is_current:
                failed = step.failed and step.ended is not None
                glyph = self._glyphs.bad if failed else self._glyphs.arrow
                mark = (f"{glyph:<2}", BAD if failed else RUNS)
            row = Text.assemble(self._glyphs.pipe, mark, (f"{at:>{digits}} ", DIM), code)
            if is_current:
                row.stylize("bold")
            rows.append(self._cut(row, width))
        if left := len(lines) - len(rows):
            more = f"  ({left:,} more line{'' if left == 1 else 's'} of code)"
            rows.append(self._row(self._glyphs.pipe, more, DIM, width))
        return rows

    def _highlighted(self, step: StepView, width: int) -> list[Line]:
        key = step.number, step.code, width
        if self._code is not None and self._code[0] == key:
            return self._code[1]
        lines = _highlighted(printable(step.code.strip("\n")), width)
        self._code = key, lines
        return lines

    def _below(self, step: StepView, now: float, width: int) -> list[Line]:
        """Returns the calls of the code: batches with their bars, tools, and sub-runs."""
        glyphs, pipe = self._glyphs, self._glyphs.pipe
        sites = [site for site in step.sites if site.is_batch or site.count > 1 or site.running]
        sites = sites or step.sites
        lines = [self._site(site, now, width) for site in sites[-MAX_SITES:]]
        if (more := len(sites) - MAX_SITES) > 0:
            lines.insert(
                0, self._row(pipe, f"  {glyphs.dots} {more} more calls before", DIM, width)
            )
        if step.sub_runs or step.runs_done:
            lines.append(self._row(pipe, f"  {sub_runs_text(step)}", "", width))
            running = [run for run in step.sub_runs if not run.is_over]
            for run in running[:MAX_SUB_RUNS]:
                turn = f"turn {len(run.steps)}" if run.steps else ""
                where = ", ".join(filter(None, [turn, phase(run), duration(run.seconds(now))]))
                text = f"  {glyphs.last}{printable(title(run)[:width])}: {printable(where)}"
                lines.append(self._row(pipe, text, DIM, width))
            if (more := len(running) - MAX_SUB_RUNS) > 0:
                lines.append(self._row(pipe, f"     {glyphs.dots} {more} more running", DIM, width))
        if step.note and step.ended is None:
            lines.append(self._row(pipe, f"  {printable(step.note[: 4 * width])}", WARN, width))
        return lines

    def _site(self, site: CallSite, now: float, width: int) -> Line:
        glyphs = self._glyphs
        line = Text.assemble(glyphs.pipe, "  ", (printable(site.name[:60]), "cyan"), " ")
        if site.is_batch:
            share = site.done / site.count if site.count else 1.0
            style = BAD if site.failed and site.is_over else RUNS if not site.is_over else GOOD
            line.append_text(self._bar(share, BAR_CELLS, style)).append(" ")
        line.append(site_text(site, now), WARN if site.failed else "")
        if site.failed and site.error:
            line.append(f"  {printable(' '.join(site.error.split()))}", BAD)
        return self._cut(line, width)

    def _bar(self, share: float, cells: int, style: str) -> Text:
        full = min(round(share * cells), cells)
        if share > 0 and not full:
            full = 1
        return Text.assemble(
            (self._glyphs.full * full, style), (self._glyphs.empty * (cells - full), DIM)
        )

    def _row(self, guide: str, text: str, style: str, width: int) -> Line:
        return self._cut(Text.assemble(guide, (text, style)), width)

    def _fitted(self, text: str, room: int) -> str:
        if cell_len(text) <= room:
            return text
        return f"{set_cell_size(text, max(room - 2, 1)).rstrip()} {self._glyphs.dots}"

    def _cut(self, line: Text, width: int) -> Line:
        line.truncate(width, overflow="ellipsis" if self._glyphs.dots == "…" else "crop")
        return line


def _lines(text: str, most: int, width: int) -> list[str]:
    """Returns the first and the last lines of a text, each no longer than needed, escaped."""
    lines = text.strip("\n").split("\n")
    if len(lines) > most:
        head, tail = most - 1 - most // 3, most // 3
        left_out = len(lines) - head - tail
        lines = [*lines[:head], f"({left_out:,} more lines)", *lines[len(lines) - tail :]]
    return [printable(line[: 2 * width]) for line in lines] if text.strip() else []


@functools.lru_cache(maxsize=4)
def _highlighter() -> Syntax:
    return Syntax("", "python", theme="ansi_dark", background_color="default")


def _highlighted(code: str, width: int) -> list[Line]:
    """Returns the lines of code, in colours."""
    shown = "\n".join(line[: 2 * width] for line in code.split("\n"))
    text = _highlighter().highlight(shown)
    text.rstrip()
    return list(text.split("\n", allow_blank=True)) or [Text("")]


class Ansi:
    """Lines as text with the escape codes of their styles. Lines that are drawn again are converted once."""

    def __init__(self) -> None:
        """Creates an empty cache."""
        self._drawn: dict[int, tuple[Line, str]] = {}
        self._console: tuple[str | None, bool] | None = None

    def of(self, lines: Sequence[Line], console: Console) -> list[str]:
        """Returns the text of each line."""
        looks = console.color_system, console.no_color
        if looks != self._console:
            self._console, self._drawn = looks, {}
        system = _SYSTEMS.get(console.color_system or "")
        drawn = {}
        for line in lines:
            before = self._drawn.get(id(line))
            same = before is not None and before[0] is line
            drawn[id(line)] = before if before and same else (line, _ansi(line, console, system))
        self._drawn = drawn
        return [drawn[id(line)][1] for line in lines]


_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}


def _ansi(line: Line, console: Console, system: ColorSystem | None) -> str:
    if system is None:
        return line.plain
    parts = []
    for segment in line.render(console, end=""):
        style = segment.style
        if style is not None and console.no_color:
            style = style.without_color
        parts.append(style.render(segment.text, color_system=system) if style else segment.text)
    return "".join(parts)
