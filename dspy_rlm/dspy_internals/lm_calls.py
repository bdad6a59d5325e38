"""The records that DSPy keeps of one LM call: its token usage, and whether a part of it was streamed."""

from __future__ import annotations

from dspy.clients.call_context import adapter_fallback_scope
from dspy.utils.usage_tracker import UsageTracker

__all__ = ["UsageTracker", "adapter_fallback_scope"]
