"""The steps of a run as the prompt shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dspy_rlm.prompts.untrusted_text import as_data
from dspy_rlm.report import Step
from sandbox_runtime.helpers import abridged

NO_STEPS = "You have not interacted with the REPL environment yet."
NO_OUTPUT = "(no output - did you forget to print?)"

# The longest reasoning and code of a step that the prompt repeats. An answer is rarely so long, and the
# trajectory has all of it.
SHOWN_ACTION_CHARS = 20_000

# Where the output of a step begins in the history, with its exact length.
_OUTPUT = re.compile(r"\n```\nOutput \(([\d,]{1,20}) chars\):\n")


def render_step(step: Step, number: int) -> str:
    """The step as the prompt shows it. The count is exact, so a reader can find the output's end."""
    said, code = (abridged(text, SHOWN_ACTION_CHARS) for text in (step.reasoning, step.code))
    reasoning = f"Reasoning: {as_data(said)}\n" if said else ""
    data = step.output.removesuffix(step.note)
    output = f"{as_data(data)}{step.output[len(data) :]}" or NO_OUTPUT
    return (
        f"=== Step {number} ===\n{reasoning}Code:\n```python\n{code}\n```\n"
        f"Output ({len(output):,} chars):\n{output}"
    )


def render_steps(steps: Sequence[Step]) -> str:
    """The whole history as the prompt shows it."""
    return "\n".join(render_step(step, at + 1) for at, step in enumerate(steps)) or NO_STEPS


def abridge_history(history: str, max_output_chars: int) -> str:
    """A rendered history with long outputs cut in the middle; the lengths it states stay true."""
    parts: list[str] = []
    at, search = 0, 0
    while found := _OUTPUT.search(history, search):
        start = search = found.end()
        end = start + int(found[1].replace(",", ""))
        if end != len(history) and not history.startswith("\n=== Step ", end):
            continue  # code that looks like the end of code
        parts.append(history[at : found.start()] + _abridged(history[start:end], max_output_chars))
        at = search = end
    return "".join([*parts, history[at:]])


def _abridged(output: str, limit: int) -> str:
    half = limit // 2
    cut = len(output) - 2 * half
    if len(output) > limit:
        output = f"{output[:half]}\n... ({cut:,} characters left out) ...\n{output[-half:]}"
    return f"\n```\nOutput ({len(output):,} chars):\n{output}"
