"""Renders the steps of a run for the prompt."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from dspy_rlm.prompts.untrusted_text import as_data
from dspy_rlm.reports.report import Step
from sandbox_runtime.helpers import abridged, omission_at

NO_STEPS = "You have not interacted with the REPL environment yet."
NO_OUTPUT = "(no output - did you forget to print?)"

# The longest reasoning and code of a step that the prompt repeats. Replies are rarely so long, and the
# trajectory keeps all of them.
SHOWN_ACTION_CHARS = 20_000

# The header of a step's code.
CODE_HEADER = "Code:\n```python\n"

# The header of a step's output in the history, with its exact length.
_OUTPUT = re.compile(r"\n```\nOutput \((\d[\d,]{0,19}) chars\):\n")


def render_step(
    step: Step,
    number: int,
    output_chars: int | None = None,
    action_chars: int = SHOWN_ACTION_CHARS,
) -> str:
    """Renders a step for the prompt. The length is exact, so that a parser finds the end of the output."""
    thought, code = (abridged(text, action_chars) for text in (step.reasoning, step.code))
    reasoning = f"Reasoning: {as_data(thought)}\n" if thought else ""
    data = step.output.removesuffix(step.note)
    output = f"{_printed(data, step.gap)}{step.output[len(data) :]}" or NO_OUTPUT
    if output_chars is not None:
        output = abridged(output, output_chars)
    return (
        f"=== Step {number} ===\n{reasoning}Code:\n```python\n{code}\n```\n"
        f"Output ({len(output):,} chars):\n{output}"
    )


def _printed(data: str, gap: int) -> str:
    """Returns a cell's output marked as data, but for our own line about omitted characters, which is at `gap`."""
    mark = omission_at(data, gap) if gap else ""
    return f"{as_data(data[:gap])}{mark}{as_data(data[gap + len(mark) :])}"


def render_steps(steps: Sequence[Step]) -> str:
    """Renders the whole history for the prompt."""
    return "\n".join(render_step(step, at + 1) for at, step in enumerate(steps)) or NO_STEPS


@dataclasses.dataclass(frozen=True)
class ShownStep:
    """A step as the history shows it."""

    reasoning: str
    code: str
    output: str


def split_steps(history: str) -> list[ShownStep]:
    """Splits a rendered history into its steps. Text that is no rendered history has none."""
    steps: list[ShownStep] = []
    at = 0
    for match in _OUTPUT.finditer(history):
        end = match.end() + int(match[1].replace(",", ""))
        is_end = end == len(history) or history.startswith("\n=== Step ", end)
        if match.start() < at or not is_end:
            continue  # a line of code or of output that looks like an output header
        head, _, code = history[at : match.start()].partition(CODE_HEADER)
        reasoning = head.partition("\n")[2].removeprefix("Reasoning: ").rstrip("\n")
        steps.append(ShownStep(reasoning, code, history[match.end() : end]))
        at = end + 1
    return steps


def abridge_history(history: str, max_output_chars: int) -> str:
    """Cuts long outputs of a rendered history in the middle; the lengths that it states stay correct."""
    parts: list[str] = []
    at, search = 0, 0
    while match := _OUTPUT.search(history, search):
        start = search = match.end()
        end = start + int(match[1].replace(",", ""))
        if end != len(history) and not history.startswith("\n=== Step ", end):
            continue  # a line of code that looks like an output header
        parts.append(history[at : match.start()] + _shown(history[start:end], max_output_chars))
        at = search = end
    return "".join([*parts, history[at:]])


def _shown(output: str, limit: int) -> str:
    output = abridged(output, limit)
    return f"\n```\nOutput ({len(output):,} chars):\n{output}"
