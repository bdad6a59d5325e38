"""The runs, LM calls and tool calls of a recorded run as lists, in the order in which they began, and their places in them.

The order makes an index stable: what begins later is appended, also while a run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import zip_longest

from dspy_rlm.journal.records import CallRecord, RunRecord, StepRecord, ToolRecord

# The most seconds that count as opening the sandbox, before the first event of a run.
_MOST_SECONDS_BEFORE = 600.0

# No run is as long: thirty years.
MAX_SECONDS = 1e9

# No call costs as much, in US dollars.
MAX_DOLLARS = 1e9

# A run without an end: its process is still running it, or was killed.
RUNNING, CRASHED = "running", "crashed"


@dataclasses.dataclass(frozen=True)
class Above:
    """The place of a run in the one that has started it."""

    run: int
    step: int | None


def span(seconds: float) -> float:
    """Returns a length of time as a document has it; zero for one that a damaged journal made up."""
    return round(seconds, 4) if 0 < seconds < MAX_SECONDS else 0.0


def amount(value: float | None) -> float | None:
    """Returns a sum of money; None if it is unknown, or no sum that could be paid."""
    return value if value is not None and 0 <= value < MAX_DOLLARS else None


class Index:
    """The parts of a recorded run, by their places in the lists of a document."""

    def __init__(self, root: RunRecord, *, is_running: bool = False) -> None:
        """Collects the parts. `is_running`: whether a process still writes the journal."""
        self.root = root
        self.unended = RUNNING if is_running else CRASHED
        found = list(_placed(root, None, None))
        order = sorted(range(len(found)), key=lambda at: (at > 0, _time(found[at][0])))
        self.runs: list[RunRecord] = [found[at][0] for at in order]
        self.run_at = {run.run_id: at for at, run in enumerate(self.runs)}
        self.above: list[Above | None] = [
            None if above is None else Above(self.run_at[above.run_id], step)
            for _, above, step in (found[at] for at in order)
        ]
        self.calls: list[CallRecord] = sorted(root.calls(), key=lambda call: call.seq)
        self.call_at = {call.call_id: at for at, call in enumerate(self.calls)}
        self.tools: list[ToolRecord] = sorted(
            (tool for run in self.runs for step in run.all_steps for tool in step.tools),
            key=lambda tool: tool.seq,
        )
        self.tool_at = {tool.call_id: at for at, tool in enumerate(self.tools)}
        self.below: dict[tuple[int, int | None], list[int]] = {}
        """The sub-runs by the run and the step above."""
        for at, above in enumerate(self.above):
            if above is not None:
                self.below.setdefault((above.run, above.step), []).append(at)
        last = max(moment for run in self.runs for moment in _moments(run))
        self.started_at = _beginning(root, last)
        self.seconds = max(_reported_seconds(root), self.since(last))

    def since(self, moment: float) -> float:
        """Returns the seconds from the start of the root run to a moment in seconds since the epoch."""
        return span(moment - self.started_at) if moment else 0.0

    def status_of(self, run: RunRecord) -> str:
        """Returns the status of a run."""
        return str((run.ended or {}).get("status") or self.unended)

    def start_of(self, run: RunRecord) -> float:
        """Returns the start of a run."""
        return 0.0 if run is self.root else self.since(_time(run))

    def end_of(self, run: RunRecord) -> float:
        """Returns the end of a run, or of what is known of it."""
        if run is self.root:
            return self.seconds
        if run.ended is not None:
            return min(self.start_of(run) + _reported_seconds(run), self.seconds)
        return min(self.since(max(_moments(run))), self.seconds)

    def step_ends(self, run: RunRecord) -> Iterator[tuple[StepRecord, float]]:
        """Yields the steps of a run, each with the time at which the next one begins, or the run ends."""
        steps = run.all_steps
        for step, after in zip_longest(steps, steps[1:]):
            yield step, self.since(after.started_at) if after else self.end_of(run)


def end_of_call(call: CallRecord) -> float | None:
    """Returns the moment at which a call has ended; None if it is under way when the journal ends."""
    if not (call.answered or call.error):
        return None
    return max([call.started_at, *(one.started_at + one.seconds for one in call.attempts)])


def _placed(
    run: RunRecord, above: RunRecord | None, number: int | None
) -> Iterator[tuple[RunRecord, RunRecord | None, int | None]]:
    """Yields a run and those below it, each with the run above and the number of its step."""
    yield run, above, number
    for step in run.all_steps:
        for sub_run in step.sub_runs:
            yield from _placed(sub_run, run, step.number)


def _time(run: RunRecord) -> float:
    return run.started_at.timestamp()


def _reported_seconds(root: RunRecord) -> float:
    seconds = (root.ended or {}).get("seconds")
    return span(seconds) if isinstance(seconds, (int, float)) else 0.0


def _beginning(root: RunRecord, last: float) -> float:
    """Returns the time at which a run began: before its first event, for a sandbox was opened."""
    began = _time(root)
    reported = last - _reported_seconds(root)
    return reported if 0 <= began - reported <= _MOST_SECONDS_BEFORE else began


def _moments(run: RunRecord) -> Iterator[float]:
    """Yields the times at which something happened in a run."""
    began = _time(run)
    yield began
    yield from (moment for moment in _all_moments(run) if 0 < moment - began < MAX_SECONDS)


def _all_moments(run: RunRecord) -> Iterator[float]:
    yield _time(run)
    for step in run.all_steps:
        yield step.started_at
        if step.cell is not None:
            yield step.cell.started_at + step.cell.seconds
        for tool in step.tools:
            yield tool.started_at + (tool.seconds or 0.0)
    for call in (
        *run.setup,
        *(one for step in run.all_steps for one in step.calls),
        *run.extraction,
    ):
        yield end_of_call(call) or call.started_at
