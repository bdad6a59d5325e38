"""The waste in recorded runs, and what to do about it. Decides on records only; no I/O, no DSPy."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from dspy_rlm.journal.records import CallRecord, RunRecord
from dspy_rlm.reports.text import count

# A sub-call is slow if it takes so many times the median of its run, and so many seconds.
SLOW_FACTOR, SLOW_SECONDS = 5.0, 5.0

# The fraction of an input below which it counts as unread.
READ_FRACTION = 0.5

# Findings of a kind that are listed with their places.
SHOWN_PLACES = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of waste in one or more runs."""

    kind: str
    """`turns_lost`, `failed_cells`, `repeated_prompts`, `cut_replies`, `failed_calls`, `slow_calls`, `unread_inputs`."""

    text: str
    advice: str
    number: int
    """The number of times that it was found."""

    places: tuple[str, ...] = ()
    """The places, as `run, step`; the first of them."""


def diagnose(runs: Sequence[RunRecord]) -> list[Finding]:
    """Returns what was found in runs, the most frequent first."""
    findings = [
        *_lost_turns(runs),
        *_failed_cells(runs),
        *_repeated_prompts(runs),
        *_cut_replies(runs),
        *_failed_calls(runs),
        *_slow_calls(runs),
        *_unread_inputs(runs),
    ]
    return sorted(findings, key=lambda finding: -finding.number)


def _lost_turns(runs: Sequence[RunRecord]) -> Iterable[Finding]:
    """Yields the causes for which the form of a reply cost a turn."""
    lost: Counter[str] = Counter()
    for run in runs:
        counted = (run.ended or {}).get("turns_lost")
        for cause, number in counted.items() if isinstance(counted, dict) else ():
            lost[str(cause)] += number if isinstance(number, int) else 0
    for cause, number in lost.items():
        yield Finding(
            "turns_lost",
            f"{count(number, 'turn')} lost to the form of a reply: {cause}",
            "See docs/replies.md for this cause; a stronger model or a higher limit of the reply avoids most.",
            number,
        )


def _failed_cells(runs: Sequence[RunRecord]) -> Iterable[Finding]:
    places: dict[str, list[str]] = {}
    for run in _all(runs):
        for step in run.steps:
            if step.cell is not None and step.cell.outcome == "failed":
                places.setdefault(step.cell.error_type, []).append(_place(run, step.number))
    for error, found in places.items():
        yield Finding(
            "failed_cells",
            f"{count(len(found), 'cell')} failed with {error}",
            "`dspy-rlm runs show RUN --step K` has the traceback; instructions or a tool may spare the turn.",
            len(found),
            tuple(found[:SHOWN_PLACES]),
        )


def _repeated_prompts(runs: Sequence[RunRecord]) -> Iterable[Finding]:
    number, found = 0, []
    for run in runs:
        seen: set[str] = set()
        for call in run.calls():
            if call.is_sub_call and call.digest in seen:
                number += 1
                found.append(_place_of(call))
            seen.add(call.digest)
    if number:
        yield Finding(
            "repeated_prompts",
            f"{count(number, 'sub-call')} had the prompt of an earlier one in the same run",
            "Keep answers in a variable, or set memo= so that equal prompts are paid once.",
            number,
            tuple(dict.fromkeys(found))[:SHOWN_PLACES],
        )


def _cut_replies(runs: Sequence[RunRecord]) -> Iterable[Finding]:
    yield from _calls(
        runs,
        "cut_replies",
        lambda call: call.was_cut,
        "ended at the limit of the reply",
        "Raise max_tokens of this LM, or ask for less in one prompt.",
    )


def _failed_calls(runs: Sequence[RunRecord]) -> Iterable[Finding]:
    yield from _calls(
        runs,
        "failed_calls",
        lambda call: call.error is not None,
        "failed",
        "docs/faults.md says what each error of a server means.",
    )


def _slow_calls(runs: Sequence[RunRecord]) -> Iterable[Finding]:
    usual = {
        run.run_id: median(times)
        for run in _all(runs)
        if (times := [_seconds(call) for step in run.all_steps for call in step.sub_calls])
    }
    yield from _calls(
        runs,
        "slow_calls",
        lambda call: (
            call.is_sub_call
            and _seconds(call) > max(SLOW_SECONDS, SLOW_FACTOR * usual.get(call.run_id, 0.0))
        ),
        "took far longer than the others of the run",
        "A batch waits for its slowest call: look at their prompts, or at the limits of the server.",
    )


def _calls(
    runs: Sequence[RunRecord], kind: str, chosen: Any, text: str, advice: str
) -> Iterable[Finding]:
    found = [_place_of(call) for run in runs for call in run.calls() if chosen(call)]
    if found:
        places = tuple(dict.fromkeys(found))[:SHOWN_PLACES]
        yield Finding(kind, f"{count(len(found), 'LM call')} {text}", advice, len(found), places)


def _unread_inputs(runs: Sequence[RunRecord]) -> Iterable[Finding]:
    unread: Counter[str] = Counter()
    for run in runs:
        coverage = (run.ended or {}).get("coverage")
        for name, facts in coverage.items() if isinstance(coverage, dict) else ():
            fraction = facts.get("fraction") if isinstance(facts, dict) else None
            if isinstance(fraction, (int, float)) and fraction < READ_FRACTION:
                unread[str(name)] += 1
    for name, number in unread.items():
        yield Finding(
            "unread_inputs",
            f"no LM was shown more than half of {name!r} in {count(number, 'run')}",
            "That is right where code has searched it. Else set require_coverage=.",
            number,
        )


def _all(runs: Sequence[RunRecord]) -> Iterable[RunRecord]:
    return (one for run in runs for one in run.walk())


def _seconds(call: CallRecord) -> float:
    return sum(attempt.seconds for attempt in call.attempts)


def _place(run: RunRecord, step: int | None) -> str:
    return f"{run.run_id}, step {step}" if step is not None else run.run_id


def _place_of(call: CallRecord) -> str:
    return f"{call.run_id}, step {call.iteration}" if call.iteration is not None else call.run_id


def findings_text(findings: Sequence[Finding], runs: int) -> str:
    """Returns the findings in words."""
    if not findings:
        return f"Nothing was wasted in {count(runs, 'run')}, as far as the journals say."
    lines = []
    for finding in findings:
        lines.append(f"{finding.text}.")
        lines += [f"    at {'; '.join(finding.places)}"] if finding.places else []
        lines.append(f"    {finding.advice}")
    return "\n".join(lines)
