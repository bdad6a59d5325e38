"""The answers that a cell had received when its process died: the same calls of later cells get them again, at no cost."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from typing import Any

from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.lms.call_readings import characters
from dspy_rlm.lms.kept_answers.store import as_from_cache, has_whole_answer
from dspy_rlm.protocols.recording import RecordedAnswer

# The most characters of answers kept for one cell, and for all lost cells together. It bounds the host's memory.
MAX_CHARS = 50_000_000


class CellAnswers:
    """The answers to the running cell of one run, sub-runs included, and those of its lost cells. Thread-safe.

    Equal calls get the answers in their order. Each answer is used once: after that, the call is sent again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards everything below
        self._running: dict[bytes, list[Any]] = defaultdict(list)
        self._running_chars = 0
        self._lost: dict[bytes, deque[Any]] = {}

    def begin(self) -> None:
        """Begins a cell."""
        with self._lock:
            self._running.clear()
            self._running_chars = 0

    def lose(self) -> None:
        """Ends a cell whose process died: its answers are kept for later cells."""
        with self._lock:
            for digest, replies in self._running.items():
                self._lost.setdefault(digest, deque()).extend(replies)
            self._running.clear()
            surplus = sum(map(_chars, self._lost.values())) - MAX_CHARS
            while surplus > 0:
                surplus -= _chars(self._lost.pop(next(iter(self._lost))))

    def key(self, kind: str, arguments: CallArguments) -> bytes | None:
        """See `AnswerStore`."""
        return arguments.digest()

    def answer(
        self, key: bytes, kind: str, depth: int, arguments: CallArguments
    ) -> RecordedAnswer | None:
        """See `AnswerStore`."""
        with self._lock:
            replies = self._lost.get(key)
            if not replies:
                return None
            reply = replies.popleft()
            self._keep(key, reply)  # this cell may be lost too
        return as_from_cache(reply, kind, depth, arguments)

    def keep(self, key: bytes, lm: Any) -> None:
        """See `AnswerStore`."""
        if has_whole_answer(lm):
            with self._lock:
                self._keep(key, lm.reply)

    def _keep(self, key: bytes, reply: Any) -> None:
        self._running_chars += characters(reply)
        if self._running_chars <= MAX_CHARS:
            self._running[key].append(reply)


def _chars(replies: deque[Any]) -> int:
    return sum(map(characters, replies))
