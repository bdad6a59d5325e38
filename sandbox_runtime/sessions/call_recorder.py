"""Serves the calls of one cell and records the answers, so that the cell can be replayed."""

from __future__ import annotations

import time
from collections.abc import Callable

from sandbox_runtime.rpc.messages import ToolRaised, ToolReturned
from sandbox_runtime.rpc.sandbox_messages import ToolCall
from sandbox_runtime.sessions.replay import CallRecord, CellRecord
from sandbox_runtime.texts.calls import TEXT_CALL
from sandbox_runtime.tools.host_tools import HostTools

Answer = ToolReturned | ToolRaised


class CallRecorder:
    """Host side of one cell's calls. `seconds` is the time that the cell waited for them."""

    def __init__(self, tools: HostTools, ran: CellRecord, send: Callable[[Answer], None]) -> None:
        """Serves the calls of `ran` with `tools`; `send` receives answers that come later."""
        self._tools = tools
        self._ran = ran
        self._send = send
        self._ended = False
        self.seconds = 0.0

    def __call__(self, call: ToolCall) -> Answer | None:
        """Runs a call; None if its answer comes later."""
        started = time.monotonic()
        # Not recorded: texts do not change, and the ranges read may exceed any memory.
        record = CallRecord() if call.tool == TEXT_CALL else self._ran.remember(call)

        def send(late: Answer) -> None:
            self._remember(record, late)
            self._send(late)

        answer = self._tools.serve(call, send)
        self.seconds += time.monotonic() - started
        if answer is not None:
            self._remember(record, answer)
        return answer

    def _remember(self, record: CallRecord, answer: Answer) -> None:
        if not self._ended:
            self._ran.answered(record, answer)

    def end(self) -> None:
        """Ends the recording: the cell is over and does not see later answers."""
        self._ended = True
