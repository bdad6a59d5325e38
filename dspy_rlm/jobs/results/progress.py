"""The progress of a job: its state as one value, the time and the dollars that are left, and a line on the terminal."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dspy_rlm.errors import SignatureError
from dspy_rlm.reports.text import dollars

# On a terminal the line is written again at most so often; elsewhere, a line now and then.
LINE_SECONDS = 0.2
LOG_SECONDS = 30.0

_CLEAR_LINE = "\r\x1b[K"


@dataclasses.dataclass(frozen=True)
class JobProgress:
    """The state of a job at a moment."""

    done: int
    """Rows that have ended in this call, however they ended."""

    skipped: int
    """Rows that an earlier call had finished."""

    total: int | None
    """Rows of the source; None if it does not say."""

    running: int
    """Rows that run now."""

    counts: Mapping[str, int]
    """Rows of the whole job by status."""

    cost: float
    """US dollars of the whole job so far."""

    max_cost: float | None
    """The limit of the job in US dollars; None: there is none."""

    seconds: float
    """Seconds since this call began."""

    row_cost: float | None = None
    """The mean cost in US dollars of the rows that have ended in this call; None before the first one."""

    @property
    def left(self) -> int | None:
        """The rows that have not ended; None if the source does not say."""
        return None if self.total is None else max(self.total - self.skipped - self.done, 0)

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest will take at the pace so far; None if that is not known."""
        return None if self.left is None or not self.done else self.left * self.seconds / self.done

    @property
    def cost_left(self) -> float | None:
        """The US dollars that the rest will cost, if it costs as the rows so far; None if that is not known."""
        if self.left is None or self.row_cost is None:
            return None
        return self.left * self.row_cost

    @property
    def failed(self) -> int:
        """Rows of the whole job without an answer."""
        return self.counts.get("failed", 0) + self.counts.get("given_up", 0)

    def text(self) -> str:
        """Returns the state in one line."""
        ended = self.skipped + self.done
        parts = [
            f"{ended:,} of {self.total:,} rows" if self.total is not None else f"{ended:,} rows",
            f"{self.failed:,} failed" if self.failed else "",
            f"{self.running:,} running" if self.running else "",
            f"{dollars(self.cost)} spent",
        ]
        if self.left:
            ahead = [
                f"about {time_text(self.seconds_left)}" if self.seconds_left is not None else "",
                f"{dollars(self.cost_left)}" if self.cost_left is not None else "",
            ]
            if any(ahead):
                parts.append(f"{' and '.join(filter(None, ahead))} left")
        if (
            self.max_cost is not None
            and self.cost_left
            and self.cost + self.cost_left > self.max_cost
        ):
            parts.append(f"would exceed max_cost of {dollars(self.max_cost)}")
        return " · ".join(filter(None, parts))


Observer: TypeAlias = Callable[[JobProgress], object]


def time_text(seconds: float) -> str:
    """Returns a time in words: `1 h 05 min`, `3 min 20 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class ProgressLine:
    """Writes the progress to stderr: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, file: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file or sys.stderr
        self._clock = clock
        self._is_terminal = bool(getattr(self._file, "isatty", lambda: False)())
        self._next = 0.0

    def __call__(self, progress: JobProgress) -> None:
        """Shows a state, unless another one was shown a moment ago."""
        if self._clock() >= self._next:
            self._write(progress)

    def finish(self, progress: JobProgress) -> None:
        """Shows the last state, and ends the line."""
        self._write(progress, last=True)

    def _write(self, progress: JobProgress, *, last: bool = False) -> None:
        now = self._clock()
        self._next = now + (LINE_SECONDS if self._is_terminal else LOG_SECONDS)
        start, end = (_CLEAR_LINE, "\n" if last else "") if self._is_terminal else ("", "\n")
        self._file.write(f"{start}{progress.text()}{end}")
        self._file.flush()


def observer_of(progress: Any) -> Observer | None:
    """Returns the observer that the argument `progress` asks for.

    Raises:
        SignatureError: It is neither a function nor a boolean.
    """
    if progress is None:
        return ProgressLine() if sys.stderr.isatty() else None
    if isinstance(progress, bool):
        return ProgressLine() if progress else None
    if callable(progress):
        observer: Observer = progress
        return observer
    raise SignatureError(f"progress must be a function, True, False or None, not {progress!r}.")
