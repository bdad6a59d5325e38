"""Inputs that no LM was shown, or that no code has touched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dspy_rlm.diagnosis.findings import Finding, Found
from dspy_rlm.journal.records import RunRecord, read_text
from dspy_rlm.reports.text import count

# The fraction of an input below which it counts as unread.
READ_FRACTION = 0.5

# A value is shorter than that in the prompt itself: the LM has seen it without any code.
SHOWN_WHOLE = 500


def unread_inputs(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields inputs that were not read: by the coverage where it was tracked, else by their names in the code."""
    yield from _little_shown(runs)
    yield from _never_named(runs)


def _little_shown(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    unread: dict[str, Found] = {}
    for run in runs:
        coverage = (run.ended or {}).get("coverage")
        for name, facts in coverage.items() if isinstance(coverage, dict) else ():
            fraction = facts.get("fraction") if isinstance(facts, dict) else None
            if isinstance(fraction, (int, float)) and fraction < READ_FRACTION:
                unread.setdefault(str(name), Found()).add(run, run.run_id)
    for name, one in unread.items():
        yield one.finding(
            "unread_inputs",
            f"no LM was shown more than half of {name!r} in {count(one.number, 'run')}",
            "That is right where code has searched it. Else set require_coverage=.",
            cause=name,
            hint=f"Say how much of {name} has to be read, and how to divide it among sub-calls.",
        )


def _never_named(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    unread: dict[str, Found] = {}
    for run in runs:
        if not run.steps:
            continue
        code = "\n".join(read_text(step.code) for step in run.all_steps)
        for name, value in run.inputs.items():
            is_short = value.kind in ("text", "json") and value.size <= SHOWN_WHOLE
            if not is_short and not re.search(rf"\b{re.escape(name)}\b", code):
                unread.setdefault(name, Found()).add(run, run.run_id)
    for name, one in unread.items():
        yield one.finding(
            "unread_inputs",
            f"no code used {name!r} in {count(one.number, 'run')}",
            "The answer cannot come from it: is the input needed?",
            cause=name,
            hint=f"Say what {name} is for, and to read it.",
        )
