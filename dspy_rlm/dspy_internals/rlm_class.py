"""The places where DSPy keeps its own `RLM` for others to import."""

from __future__ import annotations

from importlib import import_module

import dspy.predict.rlm

__all__ = ["DSPyRLM", "replace_rlm"]

DSPyRLM = dspy.predict.rlm.RLM

_MODULES = ("dspy", "dspy.predict", "dspy.predict.rlm")


def replace_rlm(cls: type) -> None:
    """Makes `dspy.RLM` this class, for later imports."""
    for module in _MODULES:
        setattr(import_module(module), "RLM", cls)  # noqa: B010 - mypy knows the module's own
