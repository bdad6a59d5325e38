"""The sending times that limits of requests and tokens per minute allow, without a clock and without locks.

A sliding window: in any 60 seconds at most so many requests and tokens. Each request gets the earliest time that the
ones before it leave, so that the order of their arrival is kept.
"""

from __future__ import annotations

import dataclasses
from collections import deque

# Servers count per minute.
WINDOW_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class ModelLimits:
    """The limits of one model for all runs of the process; None: no limit."""

    concurrency: int | None = None
    """Requests in flight."""

    requests_per_minute: int | None = None

    tokens_per_minute: int | None = None
    """Tokens of prompts and replies together. Those of a request are estimated until it is answered."""


NO_LIMITS = ModelLimits()


@dataclasses.dataclass(eq=False)
class Slot:
    """The place of a request in the window."""

    at: float
    """The time at which it may be sent, or was."""

    tokens: int
    sent: bool = False


class RateWindow:
    """The requests of the last minute and those that are to be sent, in the order of their arrival."""

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, now: float, tokens: int) -> Slot:
        """Adds a request at the end."""
        slot = Slot(now, tokens)
        self._slots.append(slot)
        return slot

    def remove(self, slot: Slot) -> None:
        """Removes a request that was not sent, or that a cache answered. Idempotent."""
        if slot in self._slots:
            self._slots.remove(slot)

    def forget(self, now: float) -> None:
        """Drops the requests that no limit counts any more."""
        while self._slots and self._slots[0].sent and self._slots[0].at <= now - WINDOW_SECONDS:
            self._slots.popleft()

    def wait(self, slot: Slot, now: float, limits: ModelLimits) -> float:
        """Returns the seconds until a request may be sent, as far as is known now; 0 sends it."""
        self.forget(now)
        self._plan(now, limits)
        if slot.at > now:
            return slot.at - now
        slot.sent, slot.at = True, now
        return 0.0

    def _plan(self, now: float, limits: ModelLimits) -> None:
        """Gives each request that was not sent the earliest time after those before it."""
        window: deque[Slot] = deque()
        tokens, latest = 0, now
        for slot in self._slots:
            if not slot.sent:
                earliest = latest
                while window and _is_full(len(window), tokens + slot.tokens, limits):
                    first = window.popleft()
                    tokens -= first.tokens
                    earliest = max(earliest, first.at + WINDOW_SECONDS)
                slot.at = latest = earliest
            while window and window[0].at <= slot.at - WINDOW_SECONDS:
                tokens -= window.popleft().tokens
            window.append(slot)
            tokens += slot.tokens


def _is_full(requests: int, tokens: int, limits: ModelLimits) -> bool:
    """Returns whether a window with so many requests has no room for another one, with so many tokens together."""
    requests_, tokens_ = limits.requests_per_minute, limits.tokens_per_minute
    return (requests_ is not None and requests >= requests_) or (
        tokens_ is not None and tokens > tokens_
    )
