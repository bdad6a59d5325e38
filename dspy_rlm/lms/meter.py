"""The account that the calls of one metered LM are booked on."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dspy_rlm.budget.allowance import Allowance, Calls
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.limiting.gate import DEFAULT_CONCURRENCY, Gate
from dspy_rlm.limiting.quota import Quota, current_quota
from dspy_rlm.lms.kept_answers.store import AnswerStore
from dspy_rlm.protocols.recording import NOT_RECORDED, OWN_KINDS, Answers, Recorder
from sandbox_runtime import check_call

# The kinds of calls that a run makes itself; its code causes all others.


@dataclasses.dataclass
class Meter:
    """The account that the calls of one metered LM are booked on."""

    ledger: Ledger
    kind: str
    """The purpose of the calls: see `Call.kind`."""

    depth: int
    scope: CancelScope = dataclasses.field(default_factory=CancelScope)
    """Cancels the calls in flight, and refuses further ones."""

    tree: CancelScope = dataclasses.field(default_factory=CancelScope)
    """Cancels the root run: for an LM that can never answer."""

    gate: Gate = dataclasses.field(default_factory=lambda: Gate(DEFAULT_CONCURRENCY))
    """Bounds the calls of the LM in flight."""

    final: bool = False
    """See `CallPlan.final`."""

    charged: bool = True
    """True if calls count towards `max_llm_calls`."""

    prepaid: int = 0
    """Calls that are charged already."""

    included: int = 0
    """Calls paid for with the sandbox that they use; not refunded on a cache hit."""

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """DSPy's settings for the calls."""

    allowance: Allowance | None = None
    """The calls of a sub-run; None for a root run."""
    on_retry: Callable[[str, float], None] = lambda _error, _seconds: None
    """Called before a failed call is sent again, with the text of its error and the seconds until then."""
    on_answer: Callable[[int, int | None], None] = lambda _chars, _tokens: None
    """Called after an answer, with the characters of the prompt, and its tokens if they were reported."""

    answers: Answers | None = None
    """The recorded answers of a run that is repeated: such a call is not sent."""
    stores: Sequence[AnswerStore] = ()
    """The kept answers that calls may have, in the order in which they are asked: those of lost cells, those on disk."""
    recorder: Recorder = NOT_RECORDED
    """Records the calls."""

    quota: Quota | None = dataclasses.field(default_factory=current_quota)
    """The rates and the money of the job that the run is a part of; None: it is a part of none."""

    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # guards both counts

    @property
    def calls(self) -> Calls:
        """The LM calls that these calls count among."""
        if self.allowance is None:
            return self.ledger
        return self.allowance.turns if self.kind in OWN_KINDS else self.allowance

    @property
    def is_sub_call(self) -> bool:
        """True for calls that are no turns of a run."""
        return self.charged and self.kind != "action"

    @property
    def is_turn_of_root(self) -> bool:
        """True for turns of a root run and its extraction, which no sub-call of the process may hold back."""
        return not self.charged and self.depth == 0

    def give_back(self) -> None:
        """Refunds the prepaid calls that were not used."""
        with self._lock:
            unused, self.prepaid = self.prepaid, 0
        self.calls.give_back_llm_calls(unused)

    def take_prepaid(self) -> int:
        """Takes one of the prepaid calls, for another meter; returns 0 if there is none."""
        with self._lock:
            calls = min(self.prepaid, 1)
            self.prepaid -= calls
            return calls

    @contextlib.contextmanager
    def charging(self) -> Iterator[Charge]:
        """Charges one call; refunds it if nothing was sent, or on a cache hit.

        Raises:
            BudgetExceededError: No call is left.
            RunEndedError: The run has ended.
        """
        self.scope.current.check()
        check_call()
        charge = Charge(given_back=self._charge())
        try:
            yield charge
        finally:
            if charge.given_back and not charge.sent:
                self.calls.give_back_llm_calls(1, replayed=charge.replayed)

    def _charge(self) -> bool:
        """Charges one call; returns whether it can be refunded."""
        if not self.charged:
            return False
        with self._lock:
            if self.included:
                self.included -= 1
                return False
            if self.prepaid:
                self.prepaid -= 1
                return True
            if self.final and self.allowance is not None and self.allowance.take_held():
                return True
        self.calls.charge_llm_calls(1)
        return True

    def context(self) -> Mapping[str, Any]:
        """Returns DSPy's settings for a call."""
        # Sub-calls are concurrent, and a listener could not tell their chunks apart.
        return {**self.settings, "send_stream": None} if self.charged else self.settings


@dataclasses.dataclass
class Charge:
    """A call that was charged."""

    given_back: bool
    sent: bool = False
    """True if a request was sent, and no cache answered."""
    replayed: bool = False
    """True if a cache answered."""
