"""The tokens that calls within a block take, by LM."""

from __future__ import annotations

from dspy.utils.usage_tracker import track_usage

__all__ = ["track_usage"]
