"""A report in words: the end of a run, and its cost."""

from __future__ import annotations

from dspy_rlm.report import RunReport


def summary(report: RunReport) -> str:
    """Returns the end of a run and its cost: `Submitted, 4 iterations, 12 sub-LM calls, 3.1 s`."""
    return f"{_outcome(report)}, {spending(report)}"


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
