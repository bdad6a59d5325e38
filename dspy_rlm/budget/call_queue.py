"""The queue of calls that wait for room in the budget, and those in flight. `ledger.py` decides which may be sent."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Protocol

from dspy_rlm.budget.admission import Amount, CallPlan
from dspy_rlm.budget.call_bounds import PromptBound
from dspy_rlm.concurrency.waiting import wait_async, wait_blocking
from dspy_rlm.errors import BudgetExceededError


class _Account(Protocol):
    def take_back(self, reservation: Reservation, *, only_waiting: bool = False) -> None:
        """Releases a reservation. Idempotent."""


class Reservation:
    """A place in the queue, then an amount reserved for a call. Settled or left once, from any thread."""

    def __init__(self, account: _Account, plan: CallPlan) -> None:
        self.plan = plan
        self.granted: Future[None] = Future()
        # Set by the ledger when it is granted.
        self.amount = Amount()
        self.prompt = PromptBound()
        self.reply_tokens: int | None = None
        """The limit of the reply in tokens; None: no limit."""
        self._account = account

    @property
    def cuts(self) -> bool:
        """True if the limit of the reply is below the LM's own."""
        own = self.plan.reply_tokens
        return self.reply_tokens is not None and (own is None or self.reply_tokens < own)

    def wait(self) -> None:
        """Blocks until the call may be sent, or the reservation is left.

        Raises:
            BudgetExceededError: It does not fit. Nothing is reserved.
        """
        wait_blocking(self.granted)

    async def soon(self) -> None:
        """Like `wait`, for an event loop. Cancelling it does not leave the queue."""
        await wait_async(self.granted)
        self.wait()

    def leave(self) -> None:
        """Gives up the reserved amount, or the place in the queue: nothing was sent. Never blocks."""
        self._account.take_back(self)

    def leave_the_line(self) -> None:
        """Gives up a place in the queue; an amount that is granted stays. Never blocks."""
        self._account.take_back(self, only_waiting=True)


class Verdict(enum.Enum):
    """The decision to send a call now, or the reason why it waits."""

    SENT = enum.auto()
    WAITS_FOR_ROOM = enum.auto()
    WAITS_FOR_A_PRICE = enum.auto()


class CallQueue:
    """Calls in the order of their arrival, and those in flight. The owner locks it."""

    def __init__(self, decide: Callable[[Reservation], Verdict]) -> None:
        """`decide` reserves the amount of a call that is sent now; it raises for one that can never be sent."""
        self._decide = decide
        self.waiting: list[Reservation] = []
        self.in_flight: dict[Reservation, None] = {}  # in order of admission

    def join(self, reservation: Reservation) -> None:
        """Appends a call, and admits what may be sent."""
        self.waiting.append(reservation)
        try:
            self.admit()
        except BaseException:
            self.drop(reservation)
            raise

    def drop(self, reservation: Reservation) -> None:
        """Removes a call, wherever it is. Idempotent."""
        if reservation in self.waiting:
            self.waiting.remove(reservation)
            reservation.granted.cancel()
        self.in_flight.pop(reservation, None)

    def admit(self) -> None:
        """Admits queued calls in order. None overtakes a call that waits for room."""
        for reservation in list(self.waiting):
            try:
                verdict = self._decide(reservation)
            except BudgetExceededError as error:
                self.waiting.remove(reservation)
                with contextlib.suppress(InvalidStateError):
                    reservation.granted.set_exception(error)
                continue
            if verdict is Verdict.WAITS_FOR_ROOM:
                return
            if verdict is Verdict.SENT:
                self.waiting.remove(reservation)
                with contextlib.suppress(InvalidStateError):  # its waiter was cancelled
                    reservation.granted.set_result(None)
                    self.in_flight[reservation] = None
