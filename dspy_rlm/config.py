"""Names that programs written for `dspy.RLM` read and set on a module."""

from __future__ import annotations

import dataclasses

from dspy_rlm.budget.budget import Budget
from sandbox_runtime import Limits


class PeerNames:
    """The settings of an RLM under the names that `dspy.RLM` has had for them. They can be set."""

    budget: Budget
    limits: Limits

    @property
    def max_iterations(self) -> int:
        """Turns of the root LM."""
        return self.budget.max_iterations

    @max_iterations.setter
    def max_iterations(self, turns: int) -> None:
        self.budget = dataclasses.replace(self.budget, max_iterations=turns)

    max_iters = max_iterations

    @property
    def max_llm_calls(self) -> int:
        """Calls of LMs that the code of one run may cause."""
        return self.budget.max_llm_calls

    @max_llm_calls.setter
    def max_llm_calls(self, calls: int) -> None:
        self.budget = dataclasses.replace(self.budget, max_llm_calls=calls)

    @property
    def max_output_chars(self) -> int:
        """Characters of a cell's output that the root LM sees."""
        return self.limits.output_chars

    @max_output_chars.setter
    def max_output_chars(self, chars: int) -> None:
        self.limits = dataclasses.replace(self.limits, output_chars=chars)
