"""DSPy's table of models: prices and context windows. Import it where it is needed: loading it is slow."""

from __future__ import annotations

from dspy.clients.capabilities import resolve
from dspy.clients.model_metadata import model_info

__all__ = ["model_info", "resolve"]
