"""Summaries and records of runs as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspy_rlm.cli.recorded.summaries import RunSummary, signature_text
from dspy_rlm.journal import MissingValueError
from dspy_rlm.journal.records import RunRecord, StepRecord, ValueRecord, read_text
from dspy_rlm.reports.text import count, dollars
from sandbox_runtime.helpers import abridged

# Characters of a code, an output and a value in the view of a whole run; that of one step has all of them.
SHOWN_CHARS = 600


def runs_table(runs: Sequence[RunSummary]) -> str:
    """Returns one line for each run."""
    rows = [("run", "started", "status", "steps", "calls", "tokens", "cost", "signature")]
    rows += [
        (
            run.run_id,
            run.started_at.replace("T", " ").removesuffix("+00:00"),
            run.status,
            str(run.steps),
            str(run.llm_calls),
            "?" if run.tokens is None else f"{run.tokens:,}",
            "?" if run.cost is None else dollars(run.cost),
            run.problem or run.signature,
        )
        for run in runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    numbers = {3, 4, 5, 6}
    return "\n".join(
        "  ".join(
            [
                *(
                    cell.rjust(width) if column in numbers else cell.ljust(width)
                    for column, (cell, width) in enumerate(zip(row, widths, strict=False))
                ),
                row[-1],
            ]
        ).rstrip()
        for row in rows
    )


def statistics_text(facts: Mapping[str, Any]) -> str:
    """Returns the totals of runs in words."""
    lines = [count(facts["runs"], "run")]
    for name, title in (("by_status", "status"), ("by_end", "ended by"), ("models", "models")):
        counts = ", ".join(f"{key} {number:,}" for key, number in facts[name].items())
        lines += [f"{title + ':':<11}{counts}"] if counts else []
    for name in ("steps", "llm_calls", "seconds"):
        if spread := facts[name]:
            numbers = ", ".join(f"{key} {number:,.4g}" for key, number in spread.items())
            lines.append(f"{name + ':':<11}{numbers}")
    unknown = facts["cost_unknown"]
    more = f", and that of {count(unknown, 'run')} with unknown prices" if unknown else ""
    lines += [f"tokens:    {facts['tokens']:,}", f"cost:      {dollars(facts['cost'])}{more}"]
    lines += [f"unreadable: {facts['unreadable']}"] if facts["unreadable"] else []
    return "\n".join(lines)


def run_text(record: RunRecord, summary: RunSummary) -> str:
    """Returns a run with its inputs, its steps and its outputs, long texts abridged."""
    tokens = "tokens unknown" if summary.tokens is None else f"{summary.tokens:,} tokens"
    cost = "cost unknown" if summary.cost is None else dollars(summary.cost)
    spent = [count(summary.steps, "step"), count(summary.llm_calls, "LM call"), tokens, cost]
    spent += [f"{summary.seconds:.1f} s"] if summary.seconds is not None else []
    end = summary.status + (f" ({summary.stopped_by})" if summary.stopped_by else "")
    lines = [
        f"run {record.run_id}: {end}, {', '.join(spent)}",
        f"{summary.path}",
        f"started {summary.started_at}; {', '.join(summary.models) or 'no LM was called'}",
        signature_text(record),
        *(f"input {name} = {_value(record, value)}" for name, value in record.inputs.items()),
        *(f"note: {note}" for note in record.notes),
    ]
    lines += [step_text(step, SHOWN_CHARS) for step in record.all_steps]
    outputs = (record.outputs or {}).items()
    lines += ["", *(f"output {name} = {_value(record, value)}" for name, value in outputs)]
    return "\n".join(lines).rstrip()


def step_text(step: StepRecord, chars: int | None = None) -> str:
    """Returns a step: reasoning, code, what the root LM saw, and the calls of its code."""

    def part(text: Any) -> str:
        whole = read_text(text).strip("\n")
        return abridged(whole, chars) if chars else whole

    lines = [f"\n[{step.number}] {part(step.reasoning) or '(no reasoning)'}", part(step.code)]
    if calls := step.sub_calls:
        failed = sum(not call.answered for call in calls)
        lines.append(
            f"--- {count(len(calls), 'LM call')} of the code{f', {failed} failed' if failed else ''}"
        )
    if step.tools and (names := [tool.name for tool in step.tools if tool.is_tool]):
        lines.append(f"--- tools: {', '.join(names)}")
    if step.sub_runs:
        lines.append(f"--- {count(len(step.sub_runs), 'sub-run')}")
    return "\n".join([*lines, "--- output", part(step.shown) or "(none)"])


def _value(record: RunRecord, value: ValueRecord) -> str:
    if value.kind in ("text", "json"):
        try:
            return abridged(repr(record.value(value)), SHOWN_CHARS)
        except MissingValueError as error:
            return f"({error})"
    return f"{value.kind} {value.path or value.type} ({value.size:,} bytes)"
