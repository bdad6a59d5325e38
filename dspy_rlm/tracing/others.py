"""Finds MLflow's instrumentation of DSPy, without importing MLflow."""

from __future__ import annotations

import os
import sys


def mlflow_traces_dspy() -> bool:
    """Returns whether `mlflow.dspy.autolog()` is on: its callback is among DSPy's."""
    if "mlflow.dspy" not in sys.modules:
        return False
    settings = sys.modules.get("mlflow.utils.autologging_utils")
    if (
        settings is not None
        and settings.get_autologging_config("dspy", "log_traces", True) is False
    ):
        return False
    import dspy  # it is there: MLflow's module has imported it

    callbacks = dspy.settings.get("callbacks") or ()
    return any(
        type(one).__name__ == "MlflowCallback" and type(one).__module__.startswith("mlflow.")
        for one in callbacks
    )


def mlflow_shares_provider() -> bool:
    """Returns whether MLflow writes its spans to OpenTelemetry's global provider instead of its own."""
    shared = os.environ.get("MLFLOW_USE_DEFAULT_TRACER_PROVIDER", "true")
    return shared.strip().lower() in ("false", "0")
