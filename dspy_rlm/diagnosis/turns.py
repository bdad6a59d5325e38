"""Turns of the LM that writes code which brought nothing, by cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dspy_rlm.diagnosis.findings import Finding, Found, place_of
from dspy_rlm.journal.records import RunRecord, StepRecord, read_text
from dspy_rlm.reports.text import count

# The advice about a lost turn, by its cause in the report: for a person, and for an LM that writes instructions.
_LOST: Mapping[str, tuple[str, str]] = {
    "cut_off": (
        "The reply ended at its limit of tokens: raise max_tokens of the LM that writes code.",
        "Say that replies have to be short: little reasoning, long code over several turns.",
    ),
    "too_long": ("The reply was too long to be read.", "Say that replies have to be short."),
    "syntax_error": (
        "The code was no Python: a stronger model makes fewer of these.",
        "Warn of the syntax that failed, such as quotes inside f-strings.",
    ),
    "refused_submit": (
        "SUBMIT had other names or types than the signature: describe the outputs in it.",
        "State the outputs with their types, and how to convert to them before SUBMIT.",
    ),
    "quoted": (
        "SUBMIT stood outside a ```python block.",
        "Say that the final SUBMIT stands in a ```python block of its own.",
    ),
    "filtered": (
        "The content filter of the provider withheld the reply: use another provider, or remove what it is about.",
        "Say that the text is worked on with code, and not quoted.",
    ),
    "refused": (
        "The model refused: say in the instructions why the task is legitimate, or use another model.",
        "Say why the task is legitimate.",
    ),
    "empty": ("The reply had no code.", "Say that each reply has code in one ```python block."),
    "unreadable": (
        'The reply had no code that could be read: style="tools" or a stronger model helps.',
        "Say that each reply has code in one ```python block.",
    ),
    "other_language": ("The reply had code in another language.", "Say that code is Python only."),
    "shell": (
        "The reply had shell commands.",
        "Say that there is no shell: only Python and its standard library.",
    ),
}

_UNKNOWN = (
    "See docs/replies.md for this cause.",
    "Say that each reply has code in one ```python block.",
)

# The advice about a cell that failed, by the class of its error.
_ERRORS: Mapping[str, str] = {
    "NameError": "Say that names have to be defined, and are kept from turn to turn.",
    "KeyError": "Say to look at the keys of the data before using them.",
    "IndexError": "Say to check lengths before indexing.",
    "AttributeError": "Say to look at the type of a value before using its methods.",
    "TypeError": "Say to look at the type of a value before using it.",
    "ModuleNotFoundError": "Say which modules are there: the standard library only.",
    "TimeoutError": "Say to work on parts of a large input, and to search it with its own methods.",
    "BudgetExceededError": "Say how many sub-calls a run has, and to batch them.",
}


def lost_turns(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields the causes for which the form of a reply cost a turn, as the reports count them."""
    lost: dict[str, tuple[int, set[str]]] = {}
    for run in runs:
        counted = (run.ended or {}).get("turns_lost")
        for cause, number in counted.items() if isinstance(counted, dict) else ():
            if isinstance(number, int) and number > 0:
                before, seen = lost.get(str(cause), (0, set()))
                lost[str(cause)] = before + number, {*seen, run.run_id}
    for cause, (number, seen) in lost.items():
        advice, hint = _LOST.get(cause, _UNKNOWN)
        yield Finding(
            "turns_lost",
            f"{count(number, 'turn')} lost to the form of a reply: {cause}",
            advice,
            number,
            cause=cause,
            runs=len(seen),
            turns=number,
            hint=hint,
        )


def failed_cells(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields the errors that ended cells, by class. A SyntaxError is a lost turn already."""
    found: dict[str, Found] = {}
    for run, step in _steps(runs):
        if step.cell is not None and step.cell.outcome == "failed":
            error = step.cell.error_type
            if error != "SyntaxError":
                found.setdefault(error, Found()).add(
                    run, place_of(run, step.number), step.root_calls
                )
    for error, one in found.items():
        yield one.costly_finding(
            "failed_cells",
            f"{count(one.number, 'cell')} failed with {error}",
            "`dspy-rlm runs show RUN --step K` has the traceback; instructions or a tool may spare the turn.",
            cause=error,
            turns=one.number,
            hint=_ERRORS.get(error, "Say how to avoid this error."),
        )


def silent_cells(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields cells that printed nothing and called nothing: the next turn knows no more than before."""
    one = Found()
    for run, step in _steps(runs):
        cell = step.cell
        if (
            cell is None
            or cell.outcome != "completed"
            or step.tools
            or step.sub_calls
            or step.sub_runs
        ):
            continue
        if not read_text(cell.output).strip():
            one.add(run, place_of(run, step.number), step.root_calls)
    if one.places:
        yield one.costly_finding(
            "silent_cells",
            f"{count(one.number, 'cell')} printed nothing",
            "What such a cell prepares can stand in the next one: instructions may say so.",
            turns=one.number,
            hint="Say to print what was found, and not to spend a turn on preparations alone.",
        )


def repeated_cells(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields cells whose code had run before in the same run."""
    one = Found()
    for root in runs:
        for run in root.walk():
            seen: set[str] = set()
            for step in run.all_steps:
                code = read_text(step.code).strip()
                if code and code in seen:
                    one.add(run, place_of(run, step.number), step.root_calls)
                seen.add(code)
    if one.places:
        yield one.costly_finding(
            "repeated_cells",
            f"{count(one.number, 'cell')} repeated the code of an earlier one of the run",
            "The LM goes in circles: max_errors= ends such runs, instructions say what to try instead.",
            turns=one.number,
            hint="Say what to try instead when something has not worked.",
        )


def not_submitted(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields the ends of runs without SUBMIT, by the limit that was reached."""
    found: dict[str, Found] = {}
    for run in runs:
        ended: Mapping[str, Any] = run.ended or {}
        if ended.get("status") in ("extracted", "partial"):
            found.setdefault(str(ended.get("stopped_by")), Found()).add(run, run.run_id)
    for limit, one in found.items():
        yield one.finding(
            "no_submit",
            f"{count(one.number, 'run')} ended without SUBMIT, by {limit}",
            f"Raise {limit}, or say in the instructions to submit earlier what there is."
            if limit.startswith("max_")
            else "Look at the last steps: `dspy-rlm runs show RUN`.",
            cause=limit,
            hint="Say to SUBMIT as soon as the answer is known, and before the last turn at the latest.",
        )


def _steps(runs: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, StepRecord]]:
    return ((run, step) for root in runs for run in root.walk() for step in run.all_steps)
