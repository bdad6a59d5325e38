"""The records that DSPy's optimizers read."""

from __future__ import annotations

from dspy.teleprompt.bootstrap_trace import FailedPrediction, TraceData

__all__ = ["FailedPrediction", "TraceData"]
