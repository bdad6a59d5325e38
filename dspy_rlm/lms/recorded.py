"""The seam for recorded answers: a call that was answered in an earlier process is booked as it was, and not sent.

`tries.py` asks an `Answers` before each call. Where the answers come from is not known here: see `dspy_rlm.recorded`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from dspy_rlm.budget.ledger import Spent
from dspy_rlm.lms.call_arguments import CallArguments


@dataclasses.dataclass(frozen=True)
class RecordedAnswer:
    """A call as it went: its attempts, then its reply or its error."""

    attempts: Sequence[Spent]
    """What each attempt took, in order."""

    reply: Any = None
    """The reply as DSPy returned it."""

    was_cut: bool = False
    """True if the reply ended at its limit of tokens."""

    error: Exception | None = None
    """The error that the call ended with; None if it was answered."""

    call_id: str = ""
    """The id of the call in its journal."""


class Answers(Protocol):
    """The recorded answers of one run. Safe to share between threads."""

    def answer(self, kind: str, arguments: CallArguments) -> RecordedAnswer | None:
        """Takes the recorded answer to a call; None if there is none, and the call is to be sent.

        Args:
            kind: The purpose of the call: see `Call.kind`.
            arguments: Its arguments.
        """
