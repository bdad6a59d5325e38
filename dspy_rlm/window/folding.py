"""The forms of a step in a prompt: whole, with its output cut, folded to a stub, and left out with others.

Every form is a step in the layout of `prompts.history`, so that each style of the prompt can write it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dspy_rlm.prompts.history import CODE_HEADER, render_step
from dspy_rlm.prompts.untrusted_text import as_data, as_value
from dspy_rlm.reports.report import Step
from dspy_rlm.values.bound_names import bound_names
from dspy_rlm.window.token_estimate import weight_of
from sandbox_runtime.helpers import abridged, in_one_line

# The levels of detail, in the order in which a step loses it.
WHOLE, CUT, FOLDED, LEFT_OUT = range(4)

# Characters of the output of a step whose output is cut: enough for a count, the keys of a row, or the end of an error.
CUT_OUTPUT_CHARS = 400

# Characters of the output, and of reasoning and code, of the newest step if it alone is over the budget.
TIGHT = ((4_000, 8_000), (1_000, 2_000), (300, 600), (80, 200))

_REASONING_CHARS = 160

# The names that a stub lists.
_MAX_NAMES = 8
_NAME_CHARS = 40


@dataclasses.dataclass(frozen=True)
class Block:
    """One or more steps as a prompt shows them."""

    first: int
    """The number of its first step, from 1."""

    last: int
    level: int
    text: str
    weight: float
    """See `weight_of`."""

    is_summary: bool = False
    """True for a summary by an LM."""


def _block(first: int, last: int, level: int, text: str, *, is_summary: bool = False) -> Block:
    return Block(first, last, level, text, weight_of(text) + 1, is_summary)


def whole(step: Step, number: int) -> Block:
    """Returns a step with all that a prompt shows of it."""
    return _block(number, number, WHOLE, render_step(step, number))


def cut(step: Step, number: int) -> Block:
    """Returns a step with the ends of its output."""
    return _block(number, number, CUT, render_step(step, number, CUT_OUTPUT_CHARS))


def tight(step: Step, number: int, output_chars: int, action_chars: int) -> Block:
    """Returns a step with the ends of its output, its reasoning and its code."""
    text = render_step(step, number, output_chars, action_chars)
    return _block(number, number, CUT, text)


def folded(step: Step, number: int, name: str) -> Block:
    """Returns a stub of a step: the beginning of its reasoning, the names it bound, and the sizes.

    Args:
        step: The step.
        number: Its number.
        name: The variable with all steps; empty if there is none.
    """
    thought = in_one_line(" ".join(step.reasoning.split()), _REASONING_CHARS)
    lines = step.code.count("\n") + 1 if step.code else 0
    code = f"# {_counted(lines, 'line')}{_names([step])}{_place(name, number - 1, 'code')}"
    output = f"[Note] {_counted(len(step.whole), 'character')}{_place(name, number - 1, 'output')}"
    return _block(number, number, FOLDED, _layout(str(number), thought, code, output))


def left_out(steps: Sequence[Step], first: int, name: str, summary: str = "") -> Block:
    """Returns one stub for several steps in a row.

    Args:
        steps: The steps.
        first: The number of the first.
        name: The variable with all steps; empty if there is none.
        summary: A summary of them by an LM, which is shown as data.
    """
    last = first + len(steps) - 1
    place = f"; `{name}[{first - 1}:{last}]` has them" if name else ""
    if summary:
        note = f"[Note] A summary of these steps by an LM, which may be wrong{place}:\n{as_data(summary)}"
    else:
        note = f"[Note] {_counted(len(steps), 'step')} left out here{place}."
    code = f"# {_counted(len(steps), 'step')}{_names(steps)}"
    text = _layout(f"{first} to {last}", "", code, note)
    return _block(first, last, LEFT_OUT, text, is_summary=bool(summary))


def _layout(number: str, reasoning: str, code: str, output: str) -> str:
    thought = f"Reasoning: {as_data(reasoning)}\n" if reasoning else ""
    return (
        f"=== Step {number} ===\n{thought}{CODE_HEADER}{code}\n```\n"
        f"Output ({len(output):,} chars):\n{output}"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _place(name: str, index: int, key: str) -> str:
    return f': `{name}[{index}]["{key}"]`' if name else ""


def _names(steps: Sequence[Step]) -> str:
    """Returns the latest names that code bound, in words."""
    bound: dict[str, None] = {}
    for step in reversed(steps):
        bound |= dict.fromkeys(name for name in bound_names(step.code) if len(name) <= _NAME_CHARS)
        if len(bound) > _MAX_NAMES:
            break
    more = ", ..." if len(bound) > _MAX_NAMES else ""
    names = ", ".join(list(bound)[:_MAX_NAMES])
    return f" binding {as_value(abridged(names, 400))}{more}" if names else ""
