"""The records that DSPy's optimizers read."""

from __future__ import annotations

import dspy
from dspy.dsp.utils.settings import main_thread_config
from dspy.teleprompt.bootstrap_trace import FailedPrediction, TraceData

__all__ = ["FailedPrediction", "TraceData", "collects_trace"]


def collects_trace() -> bool:
    """Returns whether the trace is that of a `dspy.context`, as optimizers set it, and not the list of the process."""
    return dspy.settings.trace is not main_thread_config.get("trace")
