"""The callback by which `dspy.streamify` carries its status message provider."""

from __future__ import annotations

from dspy.streaming.messages import StatusStreamingCallback

__all__ = ["StatusStreamingCallback"]
