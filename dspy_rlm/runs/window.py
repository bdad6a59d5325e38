"""The history of a run as its prompts show it: in full, until a prompt fits neither the context window nor the budget."""

from __future__ import annotations

from collections.abc import Sequence

from dspy_rlm.prompts.history import abridge_history, fit_steps, render_steps
from dspy_rlm.report import Step
from sandbox_runtime.helpers import abridged

# The part of the history that is kept at each overflow. A history grows by a turn at a time, so the prompt that
# overflows is little longer than the window.
KEPT_PART = 0.6

# The description of the variables is not cut below this.
LEAST_VARIABLES_CHARS = 600


# Characters of each output that the extraction sees if the whole does not fit into the budget. They are tried in order.
SHORTENED_OUTPUT_CHARS = (2_000, 400, 80)


class PromptWindow:
    """The parts of a prompt that grow with a run, shortened as often as the context window or the budget requires."""

    def __init__(self, variables_info: str) -> None:
        self.variables_info = variables_info
        self.overflows = 0
        """Requests that were refused because the prompt was longer than the window."""

        self._max_chars: int | None = None
        self._shortened = 0  # times that the outputs were shortened for the budget

    def history(self, steps: Sequence[Step]) -> str:
        """Returns the steps as the prompt shows them."""
        history = self._fitted(steps)
        if self._shortened:
            return abridge_history(history, SHORTENED_OUTPUT_CHARS[self._shortened - 1])
        return history

    def shorten(self) -> bool:
        """Shortens each output, because the extraction does not fit into the budget; returns False if none can be."""
        if self._shortened == len(SHORTENED_OUTPUT_CHARS):
            return False
        self._shortened += 1
        return True

    def _fitted(self, steps: Sequence[Step]) -> str:
        if self._max_chars is None:
            return render_steps(steps)
        return fit_steps(steps, self._max_chars)

    def overflow(self, steps: Sequence[Step]) -> bool:
        """Shortens the prompt, older outputs first; returns False if nothing is left to shorten."""
        self.overflows += 1
        length, least = len(self._fitted(steps)), len(fit_steps(steps, 0))
        if steps and length > least:
            self._max_chars = max(int(length * KEPT_PART), least)
            return True
        if len(self.variables_info) > LEAST_VARIABLES_CHARS:
            most = max(int(len(self.variables_info) * KEPT_PART), LEAST_VARIABLES_CHARS)
            shortened = abridged(self.variables_info, most)
            if len(shortened) < len(self.variables_info):
                self.variables_info = shortened
                return True
        return False

    @property
    def note(self) -> str:
        """The sentence that tells the LM about it; empty while everything is shown."""
        if not self.overflows:
            return ""
        return (
            "Steps are shown shortened, because the prompt did not fit into your context window: print less "
            "at a time; the variables still hold everything"
        )
