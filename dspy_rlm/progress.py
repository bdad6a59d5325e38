"""Shows a run on the terminal while it goes on."""

from __future__ import annotations

import sys
import textwrap

from dspy_rlm.events import ActionChosen, Event, RunEnded, RunStarted, StepTaken

# What is shown of one piece of code or output; the prediction has all of it.
MAX_LINES = 14
WIDTH = 100


def print_event(event: Event) -> None:
    """Prints an event to stderr."""
    print(render_event(event), file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal's sink


def render_event(event: Event) -> str:
    """The lines that stand for an event."""
    match event:
        case RunStarted(variables=variables, max_iterations=turns):
            given = [
                f"{v.name}: {v.type_name}{f' ({v.size})' if v.size else ''}" for v in variables
            ]
            return _block(f"run of at most {turns} turns over", "\n".join(given))
        case ActionChosen(number=number, reasoning=reasoning, code=code):
            return "\n".join([f"\n[{number}] {_shorten(reasoning, 3)}", _block("code", code)])
        case StepTaken(step=step, llm_calls=calls):
            asked = f" ({calls} sub-LM calls so far)" if calls else ""
            return _block(f"output{asked}", step.output or "(none)")
        case RunEnded(report=report):
            return (
                f"\n{report.status} by {report.stopped_by} after {report.iterations} turns, "
                f"{report.llm_calls} sub-LM calls, {report.seconds:.1f} s"
            )


def _block(title: str, text: str) -> str:
    return f"    {title}:\n{textwrap.indent(_shorten(text, MAX_LINES), '    | ')}"


def _shorten(text: str, most: int) -> str:
    lines = text.strip("\n").split("\n")
    if len(lines) > most:
        hidden = len(lines) - most + 1
        lines = [*lines[: most - 1], f"... ({hidden} more lines)"]
    return "\n".join(line if len(line) <= WIDTH else line[: WIDTH - 3] + "..." for line in lines)
