"""The record of one turn: the calls of its cell, each taken once. Equal ones are taken in their order."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from dspy_rlm.journal.records import CallRecord, RunRecord, StepRecord, ToolRecord
from dspy_rlm.recorded.keys import content_key_of, sub_run_key_of, tool_key_of

T = TypeVar("T")


class Equals(Generic[T]):
    """Records by a key that equal requests share."""

    def __init__(self) -> None:
        self._by_key: dict[str, deque[T]] = {}

    def add(self, key: str, record: T) -> None:
        """Adds a record after those with the same key."""
        self._by_key.setdefault(key, deque()).append(record)

    def take(self, key: str) -> T | None:
        """Takes the first record with this key that is left; None if there is none."""
        records = self._by_key.get(key)
        return records.popleft() if records else None

    def take_rest(self) -> list[T]:
        """Takes all records that are left."""
        left = [record for records in self._by_key.values() for record in records]
        self._by_key.clear()
        return left


# Errors of tools that did not end by themselves: the run was ending.
_CANCELLED = frozenset(
    {"CancelledError", "JobStoppedError", "KeyboardInterrupt", "RunEndedError", "SystemExit"}
)

# The part of a call's id that says in which process of a resumed run it was made.
_PROCESS = re.compile(r":r(\d+)\.\d+$")


def process_of(call_id: str) -> int:
    """Returns the number of the process that made a call: 0 for the first one of its run."""
    found = _PROCESS.search(call_id)
    return int(found[1]) if found else 0


def _last_processes(records: Iterable[tuple[str, CallRecord]]) -> dict[str, int]:
    """Returns the last process that made each of several calls. What failed before in another one was made again."""
    last: dict[str, int] = {}
    for key, record in records:
        last[key] = max(last.get(key, 0), process_of(record.call_id))
    return last


class Turn:
    """The rest of the record of one turn. The owner locks it."""

    def __init__(self, step: StepRecord, *, retries: bool, by_content: bool) -> None:
        """Takes the records of a step.

        Args:
            step: The step.
            retries: True if calls that failed are no answers, but are made again.
            by_content: True if the options of an LM are no part of what it is asked.
        """
        self.step = step
        self.calls: Equals[CallRecord] = Equals()
        self.tools: Equals[ToolRecord] = Equals()
        self.sub_runs: Equals[RunRecord] = Equals()
        self._lost: list[CallRecord] = []
        calls = [(content_key_of(c) if by_content else c.digest, c) for c in step.sub_calls]
        last = _last_processes(calls)
        for key, call in calls:
            is_retried = retries or process_of(call.call_id) < last[key]
            if call.answered or (call.error is not None and not is_retried):
                self.calls.add(key, call)
            else:
                self._lost.append(call)
        for tool in step.tools:
            failed = tool.error is not None and tool.error.type not in _CANCELLED
            if tool.is_tool and (tool.result is not None or failed):
                self.tools.add(tool_key_of(tool), tool)
        for sub_run in step.sub_runs:
            self.sub_runs.add(sub_run_key_of(sub_run), sub_run)

    def take_lost(self) -> list[CallRecord]:
        """Takes the LM calls that have no answer: they failed, or their answers were lost with the process."""
        lost, self._lost = self._lost, []
        return lost

    def take_rest(self) -> tuple[list[CallRecord], list[RunRecord]]:
        """Takes the LM calls and the sub-runs that nothing has asked for."""
        return self.calls.take_rest(), self.sub_runs.take_rest()
