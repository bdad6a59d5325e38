"""The diagnosis of runs: all kinds of waste, and totals. Decides on records only; no I/O but the texts of the journals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspy_rlm.diagnosis import calls, inputs, turns
from dspy_rlm.diagnosis.findings import Finding
from dspy_rlm.journal.records import RunRecord


def diagnose(runs: Sequence[RunRecord]) -> list[Finding]:
    """Returns what was wasted in recorded runs, the most frequent first.

    Args:
        runs: The runs, as `dspy_rlm.journal.load` returns them. Their sub-runs are included.
    """
    findings = [
        *turns.lost_turns(runs),
        *turns.failed_cells(runs),
        *turns.silent_cells(runs),
        *turns.repeated_cells(runs),
        *turns.not_submitted(runs),
        *calls.repeated_prompts(runs),
        *calls.cut_replies(runs),
        *calls.malformed_replies(runs),
        *calls.failed_calls(runs),
        *calls.slow_calls(runs),
        *inputs.unread_inputs(runs),
    ]
    return sorted(findings, key=lambda finding: -finding.number)


def totals(runs: Sequence[RunRecord], findings: Sequence[Finding]) -> dict[str, Any]:
    """Returns the numbers of runs and turns, and the turns that were wasted, at most all."""
    steps = sum(len(run.all_steps) for root in runs for run in root.walk())
    wasted = sum(finding.turns for finding in findings)
    return {"runs": len(runs), "turns": steps, "turns_wasted": min(wasted, steps)}
