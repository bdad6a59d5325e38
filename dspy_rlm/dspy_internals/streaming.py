"""DSPy's status messages: the callback that carries their provider, and the form in which a server can send them.

`dspy.streaming.streaming_response` knows no status messages and raises an error for them, but passes text that
begins with `data:` on. So a message of ours is such a text too.
"""

from __future__ import annotations

import json
from typing import Any

from dspy.streaming import StatusMessage
from dspy.streaming.messages import StatusStreamingCallback

__all__ = ["ServableStatus", "ServableStatuses", "StatusStreamingCallback", "servable"]


class ServableStatus(StatusMessage, str):
    """A status message that is also its server-sent event: `data: {"status": "..."}`."""

    def __new__(cls, message: str) -> ServableStatus:
        """Returns the message as an event."""
        return str.__new__(cls, f"data: {json.dumps({'status': message})}\n\n")

    def __eq__(self, other: object) -> bool:
        """Compares the messages, as DSPy's own class does."""
        if isinstance(other, StatusMessage):
            return bool(self.message == other.message)
        return str(other) == str.__str__(self) if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return str.__hash__(self)

    def __repr__(self) -> str:
        """Shows the message as DSPy's own class does."""
        return f"StatusMessage(message={self.message!r})"

    __str__ = __repr__


class ServableStatuses:
    """DSPy's stream, in which DSPy's own status messages, such as those about tools, can be served too."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send(self, item: Any) -> None:
        """Sends an item; a status message as a servable one."""
        await self._stream.send(servable(item))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def servable(item: Any) -> Any:
    """Returns an item of the stream; for a status message of DSPy a servable one."""
    return ServableStatus(item.message) if type(item) is StatusMessage else item
