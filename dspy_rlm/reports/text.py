"""A report in words: the end of a run, and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dspy_rlm.reports.report import RunReport, tokens_of

_ENDS = {
    "max_iterations": "Turns used up",
    "max_errors": "Too many failed turns (max_errors)",
    "max_seconds": "Time used up (max_seconds)",
    "interrupted": "Interrupted",
}
_REASONS = {
    "max_iterations": "The turns were used up",
    "max_errors": "Too many turns in a row failed (max_errors)",
    "max_seconds": "The time was used up (max_seconds)",
    "interrupted": "The run was interrupted",
}


def summary(report: RunReport) -> str:
    """Returns the end of a run and its cost: `Submitted, 4 iterations, 12 sub-LM calls, 3.1 s`.

    What the form of replies cost is added: `; 1 turn lost (unreadable), 2 repairs (quotes, fences)`.
    """
    lost = _counts(report.turns_lost, "turn", " lost")
    repairs = _counts(report.repairs, "repair")
    return "; ".join(
        filter(
            None,
            [f"{_outcome(report)}, {spending(report)}", ", ".join(filter(None, [lost, repairs]))],
        )
    )


def _counts(counts: Mapping[str, int], thing: str, end: str = "") -> str:
    """Returns the sum of some counts, with their names; empty if it is 0."""
    total = sum(counts.values())
    names = ", ".join(name if n == 1 else f"{name} {n:,}" for name, n in counts.items() if n)
    return f"{count(total, thing)}{end} ({names})" if total else ""


def spending(report: RunReport) -> str:
    """Returns the cost of a run: `4 iterations, 12 sub-LM calls (2 cached), 12,400 tokens, $0.0008, 3.1 s`.

    Tokens and dollars are left out where the LMs report none, or a price is unknown.
    """
    cached = sum(call.cached for call in report.sub_calls)
    failed = sum(bool(call.error) for call in report.sub_calls)
    turns_cached = sum(usage.cached for usage in report.usage) - cached
    # Calls that a cache answered are not among `llm_calls`, which the limit counts.
    calls = max(report.llm_calls + cached, len(report.sub_calls))
    return ", ".join(
        [
            count(report.iterations, "iteration")
            + _of_which(cached=turns_cached, retries=report.retries),
            count(calls, "sub-LM call") + _of_which(cached=cached, failed=failed),
            *([f"{tokens:,} tokens"] if (tokens := tokens_of(report.usage)) else []),
            *([dollars(report.cost)] if report.cost else []),
            f"{report.seconds:.1f} s",
        ]
    )


def running_total(llm_calls: int, tokens: int | None, cost: float | None, seconds: float) -> str:
    """Returns what a run has taken so far: `12 sub-LM calls, 12,400 tokens, $0.0008, 3.1 s so far`."""
    parts = [
        *([count(llm_calls, "sub-LM call")] if llm_calls else []),
        *([f"{tokens:,} tokens"] if tokens else []),
        *([dollars(cost)] if cost else []),
        f"{seconds:.1f} s",
    ]
    return f"{', '.join(parts)} so far"


def reason_of_extraction(report: RunReport) -> str:
    """Returns why a run ended without SUBMIT: `The turns were used up`, `The budget was used up (max_cost)`."""
    return _REASONS.get(report.stopped_by) or f"The budget was used up ({report.stopped_by})"


def count(number: int, thing: str) -> str:
    """Returns a number with its noun: `1 file`, `1,787 files`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _of_which(**numbers: int) -> str:
    parts = [f"{number:,} {name}" for name, number in numbers.items() if number > 0]
    return f" ({', '.join(parts)})" if parts else ""


def _outcome(report: RunReport) -> str:
    match report.status:
        case "submitted" if report.stopped_by == "interrupted":
            return "Interrupted, submitted"
        case "submitted":
            return "Submitted"
        case "extracted" | "partial":
            end = _ENDS.get(report.stopped_by, f"Budget used up ({report.stopped_by})")
            return f"{end}, outputs {_of_outputs(report)}"
        case _ if report.stopped_by in ("KeyboardInterrupt", "SystemExit"):
            return "Interrupted"
        case _:
            return f"Failed ({report.stopped_by})"


def _of_outputs(report: RunReport) -> str:
    if report.status == "extracted":
        return "extracted"
    return f"partial (missing: {', '.join(report.missing)})" if report.missing else "from the REPL"


def dollars(amount: float) -> str:
    """Returns an amount in US dollars with two digits or more, never in scientific notation: `$0.000094`."""
    if amount >= 1:
        return f"${amount:,.2f}"
    digits = 2 if amount == 0 else max(2, 1 - math.floor(math.log10(amount)))
    return f"${amount:.{min(digits, 12)}f}"
