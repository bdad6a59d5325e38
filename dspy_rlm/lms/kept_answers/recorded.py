"""The seam for recorded answers: a call that was answered in an earlier process is booked as it was, and not sent.

`tries.py` asks an `Answers` before each call. Where the answers come from is not known here: see `dspy_rlm.recorded`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.recording import Attempt


@dataclasses.dataclass(frozen=True)
class RecordedAnswer:
    """A call as it went: its attempts, then its reply or its error."""

    attempts: Sequence[Attempt]
    """Its requests in order. The last one has the reply, as DSPy returned it."""

    error: Exception | None = None
    """The error that the call ended with; None if it was answered."""

    is_logged: bool = False
    """True if the journal of the run has the call already."""

    @property
    def reply(self) -> Any:
        """The reply; None if there is none."""
        return self.attempts[-1].outputs if self.attempts else None

    @property
    def was_cut(self) -> bool:
        """True if the reply ended at its limit of tokens."""
        return bool(self.attempts) and self.attempts[-1].was_cut

    def with_reply(self, outputs: Any) -> RecordedAnswer:
        """Returns the answer with another reply."""
        last = dataclasses.replace(self.attempts[-1], outputs=outputs, was_cut=False)
        return dataclasses.replace(self, attempts=(*self.attempts[:-1], last))


class Answers(Protocol):
    """The recorded answers of one run. Safe to share between threads."""

    def answer(self, kind: str, arguments: CallArguments) -> RecordedAnswer | None:
        """Takes the recorded answer to a call; None if there is none, and the call is to be sent.

        Args:
            kind: The purpose of the call: see `Call.kind`.
            arguments: Its arguments.
        """
