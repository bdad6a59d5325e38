"""The predictor of an RLM: its demos, which optimizers may set, its copies and its saved states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import dspy

from dspy_rlm.dspy_bridge.pickling import Portable
from dspy_rlm.dspy_bridge.saved_lms import lm_state
from dspy_rlm.prompts.history import abridge_history
from dspy_rlm.values.previews import preview

# A demo shows an approach to a task; the data of another run is of little use.
DEMO_OUTPUT_CHARS = 600
DEMO_VARIABLES_CHARS = 2_000

Demo: TypeAlias = "Mapping[str, Any] | dspy.Example"


class ActionPredictor(Portable, dspy.Predict):
    """Predicts a run's next step. Accepts only demos that are steps; copies share the LM."""

    def __repr__(self) -> str:
        """Returns the fields only: DSPy's own repr has the instructions, which are long."""
        return f"ActionPredictor({self.signature.signature!r})"

    @property
    def demos(self) -> list[Demo]:
        """The example steps that a prompt shows before the task's own, as they were stored."""
        return self._demos

    @demos.setter
    def demos(self, demos: Iterable[Demo]) -> None:
        self._demos = steps_among(demos)

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Returns the state for files, without the LM's secrets."""
        state: dict[str, Any] = super().dump_state(json_mode)
        return {**state, "lm": lm_state(self.lm) if self.lm else None}

    _LIVE = frozenset({"lm", "signature"})


def steps_among(demos: Iterable[Demo]) -> list[Demo]:
    """Returns the demos that are steps: examples of the whole task have no code to learn from."""
    context = ("variables_info", "repl_history", "iteration")
    return [demo for demo in demos if demo.get("code") and any(name in demo for name in context)]


def shown_demos(demos: Sequence[Demo]) -> list[dict[str, Any]]:
    """Returns the demos as a prompt shows them: only steps, with long outputs shortened."""
    return [_shorten_demo(dict(demo)) for demo in steps_among(demos)]


def _shorten_demo(demo: dict[str, Any]) -> dict[str, Any]:
    history, variables = demo.get("repl_history"), demo.get("variables_info")
    if isinstance(history, str):
        demo["repl_history"] = abridge_history(history, DEMO_OUTPUT_CHARS)
    if isinstance(variables, str):
        demo["variables_info"] = preview(variables, DEMO_VARIABLES_CHARS)
    return demo
