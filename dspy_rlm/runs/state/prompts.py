"""The inputs of the LM calls of a run, and their size."""

from __future__ import annotations

from typing import Any

from dspy_rlm.budget.allowance import Allowance
from dspy_rlm.errors import (
    BudgetExceededError,
)
from dspy_rlm.prompts.instructions import SharedCalls, iteration_line, stopping_line
from dspy_rlm.runs.state.run_state import RunState

# The limits that a shorter prompt keeps.
PAID = ("max_tokens", "max_cost")


class RunPrompts(RunState):
    """A run, and the inputs of its next LM call."""

    def _line(self) -> str:
        """Returns the line of the next turn."""
        number = len(self.steps) + 1
        if self.ending.stop.requested:
            return stopping_line(number, self.budget)
        left = self.ledger.left(self._calls)
        shared = None
        if isinstance(self._calls, Allowance):
            # The call of the first turn is charged before it, that of a later one when it is sent.
            together = self._calls.turns.shown_calls_left - (number > 1)
            shared = SharedCalls(max(together, 0), is_share=self._calls.most is not None)
            left["llm_calls"] = min(left["llm_calls"], shared.left)
        failures, note = self._failures.in_a_row, self.window.note
        return iteration_line(number, self.budget, left, failures, note, shared)

    def action_inputs(self) -> dict[str, str]:
        """Returns the inputs of the next call of the root LM; older steps are shortened if they do not fit."""
        self.window.fit(self.steps, self._line())
        line = self._line()
        if self.ending.stop.requested:
            self.ending.stop.announced = True
            line = stopping_line(len(self.steps) + 1, self.budget)
        return {**self._shown(), "iteration": line}

    def summary_inputs(self) -> dict[str, str] | None:
        """Returns the inputs of a summary of old steps, if one is needed before the next turn."""
        self._summarized = self.window.wanted_summary(self.steps, self._line())
        if not self._summarized or self.ending.stop.requested:
            return None
        steps = self.window.summarized_text(self.steps, self._summarized)
        return {"task": self.signature.instructions, "steps": steps}

    def take_summary(self, summary: str) -> None:
        """Shows a summary in place of the steps that it was asked for; after an empty summary, steps are shortened by rules."""
        self.window.take_summary(self.steps, self._summarized, summary, self._line())

    def budget_left(self) -> dict[str, Any]:
        """Returns the result of `BUDGET()`: this turn counts as used."""
        turns = self.budget.max_iterations - len(self.steps) - 1
        if isinstance(self._calls, Allowance):
            turns = min(turns, self._calls.turns.shown_calls_left)
        return {"turns": max(turns, 0), **self.ledger.left(self._calls)}

    def extract_inputs(self) -> dict[str, str]:
        """Returns the inputs of the extraction."""
        self.window.fit(self.steps)
        return self._shown()

    def _shown(self) -> dict[str, str]:
        return {
            "variables_info": self.window.variables_info,
            "repl_history": self.window.history(),
        }

    def shorten(self, error: BudgetExceededError) -> None:
        """Shortens the outputs that the extraction sees, because they do not fit into the budget in full.

        Raises:
            BudgetExceededError: `error` itself: there is nothing more to shorten.
        """
        if error.limit in PAID and self.window.shorten():
            return
        if self.extraction.problem:
            raise self.extraction.failure() from error
        raise error
