"""The interface between a run and what records it: the layers below the journal know no more of it.

`NOT_RECORDED` is the recorder of a run without a journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dspy_rlm.budget.ledger import Spent
    from dspy_rlm.lms.call_arguments import CallArguments


# The kinds of LM calls that a run makes itself: turns, extractions, their repetitions by the adapter, summaries of old
# steps. Calls of all other kinds are made by its code.
OWN_KINDS = frozenset({"action", "extract", "adapter", "compact"})


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One request of an LM call, after its end."""

    spent: Spent
    """The amount, as it is booked on the ledger."""

    started_at: float
    """Seconds since the epoch."""

    outputs: Any = None
    """The reply, as DSPy returns it; None if there is none."""

    finish_reason: str = ""
    was_cut: bool = False
    """True if the reply ended at its limit of tokens."""

    is_final: bool = True
    """False if the reply was cut by the budget: the call is sent again."""

    refusal: str = ""
    """The words of a refusal, if they are beside the text."""


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


class CallLog(Protocol):
    """The record of one LM call."""

    def sent(self, tokens: float, cost: float) -> None:
        """Records that a request is sent, with the tokens and dollars that are reserved for it. Never raises."""

    def attempted(self, attempt: Attempt) -> None:
        """Records one request, before its reply is used. Never raises."""


class Recorder(Protocol):
    """The record of one run."""

    @property
    def path(self) -> str | None:
        """The file of the journal; None if there is none."""

    @property
    def problem(self) -> str:
        """The reason for which the journal is not complete; empty if it is."""

    def calling(
        self, kind: str, depth: int, arguments: CallArguments
    ) -> contextlib.AbstractContextManager[CallLog]:
        """Records an LM call around the block, with the exception that ends it, if any. Never raises itself."""


class _NoCall:
    def sent(self, tokens: float, cost: float) -> None:
        """Records nothing."""

    def attempted(self, attempt: Attempt) -> None:
        """Records nothing."""


class NotRecorded:
    """The recorder of a run without a journal."""

    path: str | None = None
    problem = ""

    @contextlib.contextmanager
    def calling(self, kind: str, depth: int, arguments: CallArguments) -> Iterator[CallLog]:
        """Records nothing."""
        yield _NO_CALL


class RecordedTwice:
    """Two records of one run: its journal, and its spans."""

    def __init__(self, first: Recorder, calls: Callable[..., Any]) -> None:
        """`calls` records LM calls as `Recorder.calling` does."""
        self._first = first
        self._calls = calls

    @property
    def path(self) -> str | None:
        """See `Recorder`."""
        return self._first.path

    @property
    def problem(self) -> str:
        """See `Recorder`."""
        return self._first.problem

    @contextlib.contextmanager
    def calling(self, kind: str, depth: int, arguments: CallArguments) -> Iterator[CallLog]:
        """See `Recorder`."""
        with (
            self._calls(kind, depth, arguments) as outer,
            self._first.calling(kind, depth, arguments) as inner,
        ):
            yield _TwoLogs(outer, inner)


@dataclasses.dataclass(frozen=True)
class _TwoLogs:
    outer: CallLog
    inner: CallLog

    def sent(self, tokens: float, cost: float) -> None:
        """See `CallLog`."""
        self.inner.sent(tokens, cost)
        self.outer.sent(tokens, cost)

    def attempted(self, attempt: Attempt) -> None:
        """See `CallLog`."""
        self.inner.attempted(attempt)
        self.outer.attempted(attempt)


_NO_CALL = _NoCall()

NOT_RECORDED: Recorder = NotRecorded()
