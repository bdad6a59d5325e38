"""The parts that the runs of one RLM are built from, without the RLM itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import dspy

from dspy_rlm.run_context import RunContext
from dspy_rlm.settings.config import RLMConfig


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """The parts that the runs of one RLM are built from."""

    config: RLMConfig

    predictor: dspy.Predict
    """Predicts the steps; an optimizer may have changed it."""

    extractor: dspy.Predict
    """Predicts the outputs once no turn is left."""

    module: dspy.Module
    """The RLM, as DSPy's stream listeners and callbacks know it. Runs use its identity only."""

    context: RunContext | None
    """The context that a sub-run was started with; None for a root run."""

    spawn: Callable[[RLMConfig, RunContext], dspy.Module]
    """Returns a new RLM for a sub-run."""
