"""One kind of waste, and its text: for people, and for an LM that improves instructions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_rlm.journal.records import CallRecord, RunRecord
from dspy_rlm.reports.text import count, dollars

# Findings of a kind that are listed with their places.
SHOWN_PLACES = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of waste in one or more runs."""

    kind: str
    """`turns_lost`, `failed_cells`, `silent_cells`, `repeated_cells`, `no_submit`, `repeated_prompts`, `cut_replies`,
    `malformed_replies`, `failed_calls`, `slow_calls` or `unread_inputs`."""

    text: str
    advice: str
    """The advice for a person: settings, models, tools."""

    number: int
    """The number of times that it was found."""

    places: tuple[str, ...] = ()
    """The places, as `run, step`; the first of them."""

    cause: str = ""
    """The cause within the kind: that of a lost turn, the class of an error, the model of calls, the name of an input."""

    runs: int = 1
    """The number of runs with it."""

    turns: int = 0
    """Turns that it cost."""

    cost: float | None = None
    """US dollars that it cost; None if unknown, or if it costs time only."""

    seconds: float | None = None
    """Seconds that it cost; None if it is not known to cost any."""

    hint: str = ""
    """The advice for an LM that writes instructions; empty if instructions cannot change it."""


@dataclasses.dataclass
class Found:
    """The places of one finding, while they are collected."""

    places: list[str] = dataclasses.field(default_factory=list)
    runs: set[str] = dataclasses.field(default_factory=set)
    cost: float | None = 0.0
    seconds: float = 0.0

    def add(self, run: RunRecord, place: str, calls: Sequence[CallRecord] = ()) -> None:
        """Adds a place, with the calls that it cost."""
        self.places.append(place)
        self.runs.add(run.run_id)
        for call in calls:
            if not call.cached:
                self.cost = (
                    None if self.cost is None or call.cost is None else self.cost + call.cost
                )
                self.seconds += seconds_of(call)

    @property
    def number(self) -> int:
        """The number of places."""
        return len(self.places)

    def finding(
        self, kind: str, text: str, advice: str, *, cause: str = "", turns: int = 0, hint: str = ""
    ) -> Finding:
        """Returns the finding without a cost: what was found cost nothing of its own."""
        shown = tuple(dict.fromkeys(self.places))[:SHOWN_PLACES]
        runs = len(self.runs)
        return Finding(kind, text, advice, self.number, shown, cause, runs, turns, hint=hint)

    def costly_finding(
        self, kind: str, text: str, advice: str, *, cause: str = "", turns: int = 0, hint: str = ""
    ) -> Finding:
        """Returns the finding with the cost and the seconds of its calls."""
        found = self.finding(kind, text, advice, cause=cause, turns=turns, hint=hint)
        return dataclasses.replace(found, cost=self.cost, seconds=self.seconds)


def seconds_of(call: CallRecord) -> float:
    """Returns the seconds of all requests of a call."""
    return sum(attempt.seconds for attempt in call.attempts)


def place_of(run: RunRecord, step: int | None) -> str:
    """Returns the name of a step."""
    return f"{run.run_id}, step {step}" if step is not None else run.run_id


def findings_text(
    findings: Sequence[Finding], runs: int, facts: Mapping[str, Any] | None = None
) -> str:
    """Returns the findings in words, for people."""
    if not findings:
        return f"Nothing was wasted in {count(runs, 'run')}, as far as the journals say."
    lines = []
    if facts and facts["turns_wasted"]:
        lines.append(
            f"{count(runs, 'run')}, {facts['turns']} turns, of which {facts['turns_wasted']} were wasted."
        )
    for finding in findings:
        took = [
            dollars(finding.cost) if finding.cost else "",
            f"{finding.seconds:.1f} s" if finding.seconds and finding.seconds >= 1 else "",
        ]
        in_runs = f" in {finding.runs} runs" if runs > 1 and finding.runs > 1 else ""
        spent = ", ".join(filter(None, took))
        lines.append(f"{finding.text}{in_runs}{f' ({spent})' if spent else ''}.")
        lines += [f"    at {'; '.join(finding.places)}"] if finding.places else []
        lines.append(f"    {finding.advice}")
    return "\n".join(lines)


def proposer_text(findings: Sequence[Finding], runs: int) -> str:
    """Returns the findings that instructions can change, for an LM that writes instructions; empty if there are none."""
    lines = [f"- {finding.text}. {finding.hint}" for finding in findings if finding.hint]
    if not lines:
        return ""
    head = (
        "Waste in this run, from its record:"
        if runs == 1
        else f"Waste in {runs} runs, from their records:"
    )
    return "\n".join([head, *lines])
