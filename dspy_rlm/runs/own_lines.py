"""The harness's own lines in a cell's output: taken out of it, and written anew as remarks of the run.

Everything else in an output is data, and gets a backslash where it looks like such a line. A cell cannot print one: the
host writes those at the beginning, and the sandbox states the length of those at the end. A cell that has broken
out of Python could make it lie, so a line counts only in one of the forms below, which say nothing but numbers and names.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from dspy_rlm.runs.notes import below
from dspy_rlm.runs.overwritten import overwritten_inputs
from sandbox_runtime import OwnLines
from sandbox_runtime.helpers import in_one_line, omission_in

# The longest notice about a sandbox that was started again.
MAX_NOTICE_CHARS = 1_000

# The names that a line lists; see `sandbox_runtime/guest/driver.py`.
MAX_LINE_CHARS = 700

_NUMBER = r"(\d{1,9})"
_NAME = r"[\w.<>]{1,100}"


@dataclasses.dataclass(frozen=True)
class Printed:
    """The output of a cell, apart from the harness's own lines."""

    text: str = ""

    gap: int = 0
    """The position of the line that says how much of it is omitted; 0 if nothing is."""

    remarks: tuple[str, ...] = ()
    """The remarks in place of the harness's lines."""

    def above(self, traceback: str, chars: int) -> Printed:
        """Returns the output with a traceback below it, of which the sandbox shows so many characters."""
        text = below(self.text, traceback)
        gap = omission_in(traceback, chars)
        return Printed(text, gap + len(text) - len(traceback) if gap else self.gap, self.remarks)


NOTHING_PRINTED = Printed()


def split_own_lines(output: str, own: OwnLines, code: str) -> tuple[str, list[str]]:
    """Returns the output without the harness's own lines, and the remarks in their place.

    Args:
        output: The output of a cell.
        own: The parts of it that are the harness's.
        code: The code of the cell.
    """
    notice = output[: own.head]
    end = len(output) - own.tail if own.tail else len(output)
    middle, tail = output[own.head : end], output[max(end, own.head) :]
    notice = " ".join(notice.split()).removeprefix("[").removesuffix("]")
    remarks = [in_one_line(notice, MAX_NOTICE_CHARS)] if notice else []
    kept: list[str] = []
    for line in tail.split("\n"):
        remark = _remark(line, code)
        if remark:
            remarks.append(remark)
        else:
            kept.append(line)
    rest = "\n".join(kept)
    return (middle + rest if rest.strip() else middle), remarks


def _remark(line: str, code: str) -> str:
    """Returns the remark that a line of the harness stands for; empty for any other line."""
    for form, say in _FORMS:
        if len(line) <= MAX_LINE_CHARS and (match := form.fullmatch(line)):
            return say(match, code)
    return ""


def _rebound(match: re.Match[str], code: str) -> str:
    """Returns the remark about rebound functions, if the code itself binds these names."""
    names = set(match[1].split(", "))
    bound = overwritten_inputs(code, names)
    if len(bound) != len(names):
        return ""
    return f"This cell rebound {', '.join(bound)}; the next cell has the original again."


def _tasks(match: re.Match[str], _code: str) -> str:
    were = "1 background task was" if match[1] == "1" else f"{match[1]} background tasks were"
    return f"{were} still running when the cell ended, and {'is' if match[1] == '1' else 'are'} cancelled."


def _callbacks(match: re.Match[str], _code: str) -> str:
    one = match[1] == "1"
    were = "1 callback was" if one else f"{match[1]} callbacks were"
    return f"{were} still waiting when the cell ended, and {'is' if one else 'are'} dropped."


def _threads(match: re.Match[str], _code: str) -> str:
    one = match[1] == "1"
    were = "1 thread was" if one else f"{match[1]} threads were"
    return f"{were} still running when the cell ended, and {'is' if one else 'are'} stopped."


def _coroutine(match: re.Match[str], _code: str) -> str:
    return f"The coroutine {match[1]} was never awaited: write `await` before the call."


_Say = Callable[[re.Match[str], str], str]

# The forms of the lines that `sandbox_runtime/guest/driver.py` and `event_loop.py` write.
_FORMS: tuple[tuple[re.Pattern[str], _Say], ...] = (
    (
        re.compile(r"\[this cell rebound ([\w, ]+); the next cell has the original again\]"),
        _rebound,
    ),
    (
        re.compile(rf"\[{_NUMBER} background task\(s\) were still running and are cancelled\]"),
        _tasks,
    ),
    (
        re.compile(
            rf"\[{_NUMBER} callback\(s\) of the event loop were still waiting and are dropped\]"
        ),
        _callbacks,
    ),
    (re.compile(rf"\[{_NUMBER} thread\(s\) were still running and are stopped\]"), _threads),
    (re.compile(rf"\[coroutine '({_NAME})' was never awaited\]"), _coroutine),
)
