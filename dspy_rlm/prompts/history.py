"""The steps of a run: kept, rendered for the prompt, and reported at the end."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from dspy_rlm.prompts.untrusted_text import as_data
from dspy_rlm.report import Call, Usage
from sandbox_runtime import abridged

# Changes when a saved trajectory can no longer be read the same way.
FORMAT_VERSION = 1

NO_STEPS = "You have not interacted with the REPL environment yet."
NO_OUTPUT = "(no output - did you forget to print?)"

# The longest reasoning and code of a step that the prompt repeats. An answer is rarely so long, and the
# trajectory has all of it.
SHOWN_ACTION_CHARS = 20_000

# Where the output of a step begins in the history, with its exact length.
_OUTPUT = re.compile(r"\n```\nOutput \(([\d,]{1,20}) chars\):\n")

Status = Literal["running", "submitted", "extracted", "failed"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One turn: what the root LM thought and wrote, and what came of it, as it came."""

    reasoning: str
    code: str
    output: str

    note: str = dataclasses.field(default="", compare=False)
    """The end of the output that is the harness's own words, which a prompt shows as they are."""

    def render(self, number: int) -> str:
        """The step as the prompt shows it. The count is exact, so a reader can find the output's end."""
        said, code = (abridged(text, SHOWN_ACTION_CHARS) for text in (self.reasoning, self.code))
        reasoning = f"Reasoning: {as_data(said)}\n" if said else ""
        data = self.output.removesuffix(self.note)
        output = f"{as_data(data)}{self.output[len(data) :]}" or NO_OUTPUT
        return (
            f"=== Step {number} ===\n{reasoning}Code:\n```python\n{code}\n```\n"
            f"Output ({len(output):,} chars):\n{output}"
        )


def render_steps(steps: Sequence[Step]) -> str:
    """The whole history as the prompt shows it."""
    return "\n".join(step.render(at + 1) for at, step in enumerate(steps)) or NO_STEPS


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


@dataclasses.dataclass(frozen=True)
class RunReport:
    """How a run went; `prediction.run`, and the `run` of an error that ended one."""

    status: Status
    """`submitted` by the LM, `extracted` after the last iteration, or `failed`."""

    stopped_by: str
    """What ended the run: `SUBMIT`, the name of a limit, or the name of an exception."""

    steps: tuple[Step, ...] = dataclasses.field(repr=False)
    llm_calls: int
    """Calls of LMs that the run's code has caused, those of sub-runs among them."""

    seconds: float
    """Wall time from the inputs to here."""

    started_at: datetime | None = None
    """When the run began."""

    usage: tuple[Usage, ...] = ()
    """Calls, tokens and cost, by depth and model. Sub-runs are at depth 1 and below."""

    cost: float | None = None
    """US dollars in all; None if what a call costs is unknown, or it was under way at the end."""

    sub_calls: tuple[Call, ...] = dataclasses.field(default=(), repr=False)
    """The calls that code has caused, one by one."""

    under_way: tuple[Call, ...] = dataclasses.field(default=(), repr=False)
    """The calls that were not answered when the run ended: they are in `usage`, and `cost` is None with them."""

    cost_at_most: float | None = None
    """US dollars in all, with the most that calls can cost whose end nobody waited for. None: no bound is
    known, as where `max_cost` did not ask for one."""

    @property
    def iterations(self) -> int:
        """Turns of the root LM."""
        return len(self.steps)

    @property
    def trajectory(self) -> list[dict[str, str]]:
        """The steps as plain dicts with the keys `reasoning`, `code` and `output`."""
        return [
            {"reasoning": step.reasoning, "code": step.code, "output": step.output}
            for step in self.steps
        ]

    def dump(self) -> dict[str, Any]:
        """The report as plain data, with its format version, for files."""
        return {
            "format": FORMAT_VERSION,
            "status": self.status,
            "stopped_by": self.stopped_by,
            "iterations": self.iterations,
            "llm_calls": self.llm_calls,
            "seconds": self.seconds,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "cost": self.cost,
            "cost_at_most": self.cost_at_most,
            "usage": [dataclasses.asdict(usage) for usage in self.usage],
            "sub_calls": [dataclasses.asdict(call) for call in self.sub_calls],
            "under_way": [dataclasses.asdict(call) for call in self.under_way],
            "trajectory": self.trajectory,
        }
