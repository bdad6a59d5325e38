"""A report in words: the end of a run, and its cost."""

from __future__ import annotations

from collections.abc import Mapping

from dspy_rlm.report import RunReport


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
    """Returns the cost of a run: `4 iterations, 12 sub-LM calls, 3.1 s`."""
    return ", ".join(
        [
            count(report.iterations, "iteration"),
            count(report.llm_calls, "sub-LM call"),
            f"{report.seconds:.1f} s",
        ]
    )


def count(number: int, thing: str) -> str:
    """Returns a number with its noun: `1 file`, `1,787 files`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _outcome(report: RunReport) -> str:
    match report.status:
        case "submitted":
            return "Submitted"
        case "extracted":
            return "Turns used up, outputs extracted"
        case _ if report.stopped_by == "KeyboardInterrupt":
            return "Interrupted"
        case _:
            return f"Failed ({report.stopped_by})"
