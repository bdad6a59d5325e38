"""Errors of connections that only their callers here see."""

from __future__ import annotations

from dspy_rlm.errors import ToolServerError


class NotSentError(ToolServerError):
    """The connection has ended before the server saw the request, so it can be sent again."""
