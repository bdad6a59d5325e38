"""The steps of a run as a variable of its REPL: code can search all of them, also what prompts no longer show.

It costs nothing until steps are left out of a prompt and a cell names the variable: then it is filled before that cell,
by a cell of our own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from dspy_rlm.reports.report import Step
from dspy_rlm.values.bound_names import bound_names
from sandbox_runtime.helpers import abridged

# The function of the REPL that returns the steps.
HISTORY = "HISTORY"

# The names of the variable, the first that is free.
NAMES = ("history", "run_history")

# Characters of steps that one call hands over.
PIECE_CHARS = 4_000_000


class Past:
    """The steps of a run for its cells."""

    def __init__(self, steps: Sequence[Step], taken: Collection[str]) -> None:
        """Names nothing yet.

        Args:
            steps: The steps of the run, to which it adds.
            taken: The names of inputs and tools, which take precedence.
        """
        self.name = ""
        """The name of the variable; empty before it is chosen, and if there is none."""

        self._steps = steps
        self._taken = set(taken)
        self._is_used = False

    def avoid(self, variables: str) -> None:
        """Takes the names off the list that variables of earlier calls have, as they are listed in lines."""
        self._taken |= {
            name for name in NAMES for line in variables.split("\n") if line.startswith(name)
        }

    def choose(self) -> str:
        """Returns the name of the variable: one that neither the user nor a cell has used. Empty if there is none."""
        if HISTORY in self._taken:
            return ""
        bound = {name for step in self._steps for name in bound_names(step.code)}
        free = (name for name in NAMES if name not in self._taken and name not in bound)
        self.name = next(free, "")
        return self.name

    def refreshing(self, code: str) -> str:
        """Returns the code that fills the variable before a cell; empty if the cell does not need it.

        A cell that binds the name itself has a variable of its own from there on.
        """
        if not self.name:
            return ""
        self._is_used = self._is_used or self.name in code
        if self.name in bound_names(code):
            self.name = ""
            return ""
        return f"{self.name} = {HISTORY}()" if self._is_used else ""

    def some(self, start: int = 0) -> list[dict[str, Any]]:
        """Returns the steps after the first `start`, as many as one call hands over: one at least if there are any."""
        records: list[dict[str, Any]] = []
        room = PIECE_CHARS
        for number, step in enumerate(self._steps[start:], start + 1):
            room -= len(step.reasoning) + len(step.code) + len(step.whole)
            if records and room < 0:
                break
            records.append(_record(number, step, step.whole))
        return records

    def all(self) -> list[dict[str, Any]]:
        """Returns the steps of this run so far: dicts with step, reasoning, code and output."""
        most = PIECE_CHARS // max(len(self._steps), 1)
        return [_record(n, one, abridged(one.whole, most)) for n, one in enumerate(self._steps, 1)]


def _record(number: int, step: Step, output: str) -> dict[str, Any]:
    return {"step": number, "reasoning": step.reasoning, "code": step.code, "output": output}
