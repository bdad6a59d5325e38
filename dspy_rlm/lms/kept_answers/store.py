"""The protocol of a store of answers, and the rules that all of them share."""

from __future__ import annotations

import time
from typing import Any, Protocol

from dspy_rlm.budget.admission import Amount
from dspy_rlm.budget.ledger import Spent
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.lms.call_readings import BYTES_PER_TOKEN, characters
from dspy_rlm.protocols.recording import Attempt, RecordedAnswer
from dspy_rlm.reports.report import Call


class AnswerStore(Protocol):
    """A store of answers to calls that then need no request."""

    def key(self, kind: str, arguments: CallArguments) -> bytes | None:
        """Returns the key of a call; None if the store neither has nor keeps an answer to it."""

    def answer(
        self, key: bytes, kind: str, depth: int, arguments: CallArguments
    ) -> RecordedAnswer | None:
        """Returns the answer of a call; None if there is none."""

    def keep(self, key: bytes, lm: Any) -> None:
        """Keeps the last reply of a metered LM."""


def as_from_cache(reply: Any, kind: str, depth: int, arguments: CallArguments) -> RecordedAnswer:
    """Returns a kept reply as a cached answer.

    In prompts it counts as if it had been computed, so that equal runs have equal prompts: see `Ledger.left`.
    """
    chars = characters(reply)
    call = Call(kind, arguments.model, depth, arguments.chars, chars, cached=True, cost=0.0)
    spent = Spent(call, replayed=Amount(tokens=chars / BYTES_PER_TOKEN))
    return RecordedAnswer((Attempt(spent, time.time(), reply),))


def has_whole_answer(lm: Any) -> bool:
    """Returns whether the last reply of a metered LM is a whole answer."""
    ending = lm.reply_ending
    return (
        not lm.reply_was_cut
        and not ending.is_cut
        and not ending.withheld
        and characters(lm.reply) > 0
    )
