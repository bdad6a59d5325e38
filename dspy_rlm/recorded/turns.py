"""The record of one turn: the calls of its cell, each taken once. Equal ones are taken in their order."""

from __future__ import annotations

from collections import deque
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


class Turn:
    """What is left of the record of one turn. The owner locks it."""

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
        for call in step.sub_calls:
            if call.answered or (call.error is not None and not retries):
                self.calls.add(content_key_of(call) if by_content else call.digest, call)
            else:
                self._lost.append(call)
        for tool in step.tools:
            if tool.is_tool and (tool.result is not None or (tool.error and not retries)):
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
