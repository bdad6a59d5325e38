"""The tool calls of the running cell that have no answer yet. The first to claim the answer to a call sends it.

Keeps the books only; `writer.py` sends the answers, and guards this with its lock. The sandbox is hostile: what it
may not do in the place that the books show is a breach of the protocol.
"""

from __future__ import annotations

from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.sandbox_messages import ToolCall

# More calls than this in flight are an accident or an attack; the host works on few at a time.
MAX_OPEN_CALLS = 10_000


class OpenCalls:
    """The open calls of one cell."""

    def __init__(self, request: int | None = None) -> None:
        """Starts without calls. `request` is that of the cell; None: no cell runs, and none may be made."""
        self._request = request
        self._open: set[int] = set()
        self._blocking: int | None = None

    @property
    def request(self) -> int | None:
        """The request of the running cell; None if none runs."""
        return self._request

    def begin(self, call: ToolCall) -> None:
        """Records a call.

        Raises:
            ProtocolError: The cell may not make it now.
        """
        if self._request is None or call.request != self._request:
            raise ProtocolError("it called a tool for a cell that does not run")
        if call.id in self._open:
            raise ProtocolError("it made the same call twice")
        if len(self._open) >= MAX_OPEN_CALLS:
            raise ProtocolError("too many calls are in flight")
        self._open.add(call.id)
        if call.mode != "aio":
            self._blocking = call.id

    def claim(self, call: int) -> bool:
        """Claims the answer to a call. True once for each call, and never after its cell."""
        if call not in self._open:
            return False
        self._open.remove(call)
        if call == self._blocking:
            self._blocking = None
        return True

    def claim_blocking(self) -> int | None:
        """Claims the answer to the call that the cell is blocked for; None if there is no such call."""
        call = self._blocking
        if call is not None:
            self.claim(call)
        return call

    def claim_all(self) -> list[int]:
        """Claims the answers to all open calls."""
        calls = sorted(self._open)
        self._open.clear()
        self._blocking = None
        return calls
