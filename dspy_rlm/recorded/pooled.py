"""The recorded sub-answers of a run, for a run that goes another way: a call with the same prompt has the same answer.

It does not matter which turn or which sub-run asked, nor which model with which options. A call that is asked more often than it was
recorded has the last answer again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import dspy

from dspy_rlm.budget.allowance import Calls
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.journal.records import CallRecord, RunRecord, ToolRecord
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.protocols.recording import OWN_KINDS, RecordedAnswer
from dspy_rlm.recorded.answers import answer_of
from dspy_rlm.recorded.keys import content_key, content_key_of, tool_key_of
from dspy_rlm.recorded.states import seed_of
from dspy_rlm.recorded.tools import played_tool
from sandbox_runtime import Checkpoint, Sandbox

T = TypeVar("T")


class PooledPlayback:
    """A `Playback` of the sub-answers and the results of tools only. Shared by the runs of a tree."""

    def __init__(self, record: RunRecord) -> None:
        """Reads the prompts of all answered calls."""
        self.seed = seed_of(record)
        self.kept = ""
        self.played = 0
        self.continues = None
        self.origin = None
        self.reused = 0
        """Calls that had a recorded answer."""
        self.sent = 0
        """Calls that had none."""
        self._record = record
        self._lock = threading.Lock()  # guards the counts and the queues
        self._calls: dict[str, deque[CallRecord]] = {}
        self._tools: dict[str, deque[ToolRecord]] = {}
        for call in record.calls():
            if call.answered and (call.kind not in OWN_KINDS or call.depth > 0):
                self._calls.setdefault(content_key_of(call), deque()).append(call)
        for run in record.walk():
            for step in run.all_steps:
                for tool in step.tools:
                    if tool.is_tool and tool.result is not None:
                        self._tools.setdefault(tool_key_of(tool), deque()).append(tool)

    def answer(self, kind: str, arguments: CallArguments) -> RecordedAnswer | None:
        """See `Answers`."""
        with self._lock:
            call = _next(self._calls.get(content_key(kind, arguments)))
            self.reused += call is not None
            self.sent += call is None
        return None if call is None else answer_of(call)

    def tool(self, name: str, function: HostFunction) -> HostFunction:
        """See `Playback`."""

        def take(key: str) -> ToolRecord | None:
            with self._lock:
                return _next(self._tools.get(key))

        return played_tool(name, function, take, self._record.value)

    def child(self, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> PooledPlayback:
        """See `Playback`. Its turns are answered too where they ask the same."""
        return self

    # ---- What the run does by itself ----

    def bind(self, ledger: Ledger, calls: Calls, note: Callable[[str], None]) -> None:
        """See `Playback`."""

    def observe(self, event: Any) -> None:
        """See `Playback`."""

    def clock(self) -> tuple[float, datetime | None]:
        """See `Playback`."""
        return 0.0, None

    def end(self) -> None:
        """See `Playback`. Answers that nothing asked for are no part of the other way."""

    def checkpoint(self) -> Checkpoint | None:
        """See `Playback`."""
        return None

    def cells(self, sandbox: Sandbox, save: Callable[[], Checkpoint] | None) -> Sandbox:
        """See `Playback`."""
        return sandbox


def _next(records: deque[T] | None) -> T | None:
    if not records:
        return None
    return records.popleft() if len(records) > 1 else records[0]
