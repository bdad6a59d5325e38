"""The critical path: what a run waited for at each moment, from its start to its end.

It is found backwards: from the end of a step to the beginning of what ended last, and so on. What the code of a cell did not wait
for is left out, such as the other calls of a batch than its slowest ones.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from dspy_rlm.journal.records import CallRecord, RunRecord, StepRecord
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.content.indexes import Index, end_of_call, span

# Segments of a page; of a longer path, short neighbours become one.
MAX_SEGMENTS = 2_000

PARTS = ("root", "sandbox", "sub", "tool", "other")


@dataclasses.dataclass(frozen=True)
class _Activity:
    """Something that a run may have waited for."""

    start: float
    end: float
    segment: doc.Segment
    run: RunRecord | None = None
    """The sub-run that it is."""
    cell: StepRecord | None = None
    """The step whose cell it is."""


def time_parts(index: Index) -> doc.TimeParts:
    """Returns the critical path of the root run, and its seconds by part."""
    path = _joined(reversed(list(_run_path(index, index.root, 0.0, index.seconds))))
    seconds: dict[str, float] = defaultdict(float)
    for segment in path:
        seconds[segment["part"]] += segment["end"] - segment["start"]
    return {
        "by_part": {part: round(seconds[part], 4) for part in PARTS},
        "critical": _thinned(path, index.seconds / MAX_SEGMENTS),
    }


def _segment(part: str, run: int, step: int | None = None) -> doc.Segment:
    return {
        "part": part,
        "start": 0.0,
        "end": 0.0,
        "run": run,
        "step": step,
        "call": None,
        "tool": None,
    }


def _run_path(index: Index, run: RunRecord, start: float, end: float) -> Iterator[doc.Segment]:
    """Yields the segments of a run between two times, the last one first."""
    at = index.run_at[run.run_id]
    own = [
        *run.setup,
        *run.extraction,
        *(call for step in run.all_steps for call in step.root_calls),
    ]
    activities = [_of_call(index, call, end, "root") for call in own]
    ends = {step.number: until for step, until in index.step_ends(run)}
    for step in run.all_steps:
        if step.cell is not None:
            began = index.since(step.cell.started_at)
            activities.append(
                _Activity(
                    began,
                    began + span(step.cell.seconds),
                    _segment("sandbox", at, step.number),
                    cell=step,
                )
            )
        elif step is run.unfinished and (begins := _begin_of_cell(index, step)) is not None:
            activities.append(
                _Activity(
                    begins, ends[step.number], _segment("sandbox", at, step.number), cell=step
                )
            )
    yield from _path(index, activities, _segment("other", at), start, end)


def _begin_of_cell(index: Index, step: StepRecord) -> float | None:
    """Returns the time at which the cell of an unfinished step began, as far as it is known."""
    if not (step.sub_calls or step.tools or step.sub_runs or step.code):
        return None
    ends = [moment for call in step.root_calls if (moment := end_of_call(call)) is not None]
    return index.since(max(ends, default=step.started_at))


def _cell_path(
    index: Index, run: RunRecord, step: StepRecord, start: float, end: float
) -> Iterator[doc.Segment]:
    """Yields the segments of a cell."""
    at = index.run_at[run.run_id]
    activities = [_of_call(index, call, end, "sub") for call in step.sub_calls]
    waits: list[tuple[float, float]] = []
    for tool in step.tools:
        began = index.since(tool.started_at)
        until = end if tool.seconds is None else began + span(tool.seconds)
        if tool.is_tool:
            segment = _segment("tool", at, step.number)
            segment["tool"] = index.tool_at[tool.call_id]
            activities.append(_Activity(began, until, segment))
        else:
            waits.append((began, until))
    for sub_run in step.sub_runs:
        segment = _segment("sub", index.run_at[sub_run.run_id])
        activities.append(
            _Activity(index.start_of(sub_run), index.end_of(sub_run), segment, run=sub_run)
        )
    gap = _segment("sandbox", at, step.number)
    waits = _merged(waits)
    for segment in _path(index, activities, gap, start, end):
        if segment["part"] == "sandbox" and segment["run"] == at:
            yield from _with_waits(segment, waits)
        else:
            yield segment


def _with_waits(
    segment: doc.Segment, waits: Sequence[tuple[float, float]]
) -> Iterator[doc.Segment]:
    """Yields a segment of a cell, with the time in a function of the REPL as waiting: for a slot, or for a retry.

    `waits` do not overlap, and rise.
    """
    end = segment["end"]
    at = bisect_left(waits, (end, end))
    while at > 0 and waits[at - 1][1] > segment["start"]:
        at -= 1
        low, high = max(waits[at][0], segment["start"]), min(waits[at][1], end)
        if high < end:
            yield {**segment, "start": high, "end": end}
        yield {**segment, "part": "other", "start": low, "end": high}
        end = low
    if segment["start"] < end:
        yield {**segment, "end": end}


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns spans of time without overlaps, in order."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        elif start < end:
            found.append((start, end))
    return found


def _of_call(index: Index, call: CallRecord, end: float, part: str) -> _Activity:
    ended = end_of_call(call)
    segment = _segment(part, index.run_at[call.run_id], call.iteration)
    segment["call"] = index.call_at[call.call_id]
    return _Activity(
        index.since(call.started_at), end if ended is None else index.since(ended), segment
    )


def _path(
    index: Index, activities: list[_Activity], gap: doc.Segment, start: float, end: float
) -> Iterator[doc.Segment]:
    """Yields what was waited for between two times, the last one first; `gap` where it was nothing of these."""
    at = end
    for one in sorted(activities, key=lambda one: (-one.end, one.start)):
        low, high = max(one.start, start), min(one.end, at)
        if low >= high:
            continue
        if high < at:
            yield {**gap, "start": high, "end": at}
        if one.run is not None:
            yield from _run_path(index, one.run, low, high)
        elif one.cell is not None:
            yield from _cell_path(index, index.runs[one.segment["run"]], one.cell, low, high)
        else:
            yield {**one.segment, "start": low, "end": high}
        at = low
    if start < at:
        yield {**gap, "start": start, "end": at}


def _joined(path: Iterable[doc.Segment]) -> list[doc.Segment]:
    """Returns a path with neighbours of the same thing as one."""
    result: list[doc.Segment] = []
    for segment in path:
        if result and {**result[-1], "start": 0, "end": 0} == {**segment, "start": 0, "end": 0}:
            result[-1]["end"] = segment["end"]
        else:
            result.append(segment)
    return result


def _thinned(path: list[doc.Segment], least: float) -> list[doc.Segment]:
    """Returns a path of at most about `MAX_SEGMENTS`: short neighbours become one, which is what the longest of them is."""
    if len(path) > MAX_SEGMENTS:
        kept: list[doc.Segment] = []
        longest = 0.0
        for segment in path:
            length = segment["end"] - segment["start"]
            if not kept or length >= least or kept[-1]["end"] - kept[-1]["start"] >= least:
                kept.append({**segment})
                longest = length
                continue
            start = kept[-1]["start"]
            if length > longest:
                kept[-1], longest = {**segment}, length
            kept[-1]["start"], kept[-1]["end"] = start, segment["end"]
        path = kept
    for segment in path:
        segment["start"], segment["end"] = round(segment["start"], 4), round(segment["end"], 4)
    return path
