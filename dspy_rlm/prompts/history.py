"""Renders the steps of a run for the prompt."""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Callable, Sequence

from dspy_rlm.prompts.untrusted_text import as_data
from dspy_rlm.reports.report import Step
from sandbox_runtime.helpers import (
    MAX_MARK_CHARS,
    abridged,
    abridged_again,
    omission_at,
    omission_in,
)

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
    code = abridged(step.code, action_chars)
    reasoning = f"Reasoning: {_thought(step.reasoning, action_chars)}\n" if step.reasoning else ""
    output = _marked(step.output, step.note, step.gap) or NO_OUTPUT
    if output_chars is not None:
        output = abridged(output, output_chars)
    return (
        f"=== Step {number} ===\n{reasoning}Code:\n```python\n{code}\n```\n"
        f"Output ({len(output):,} chars):\n{output}"
    )


def cut_output(output: str, note: str, gap: int, limit: int) -> tuple[str, str, int]:
    """Returns an output of which a prompt shows at most `limit` + `MAX_MARK_CHARS` characters, and its note and gap.

    Marking an output as data makes it longer, so that less of it is shown. A note that is cut counts as output.
    """

    shown = abridged(output, limit)
    if shown != output:
        gap = omission_in(shown, limit)

    def cut(chars: int) -> tuple[str, str, int]:
        text, place = abridged_again(shown, gap, chars)
        return text, note if text.endswith(note) else "", place

    return cut(_fitting(limit, lambda chars: _marked(*cut(chars))))


def _thought(reasoning: str, limit: int) -> str:
    """Returns reasoning marked as data, with its middle left out if it is longer."""

    def shown(chars: int) -> str:
        return as_data(abridged(reasoning, chars))

    return shown(_fitting(limit, shown))


def _fitting(limit: int, render: Callable[[int], str]) -> int:
    """Returns the largest limit for cutting a text with which what is rendered of it is within `limit`."""

    def too_long(chars: int) -> bool:
        return len(render(chars)) > limit + MAX_MARK_CHARS

    # The least is a character at each end.
    return bisect.bisect_left(range(1, limit), True, key=too_long) if too_long(limit) else limit


def _marked(output: str, note: str, gap: int) -> str:
    """Returns an output with what the cell printed marked as data, and the note as it is."""
    data = output.removesuffix(note)
    return f"{_printed(data, gap)}{output[len(data) :]}"


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
