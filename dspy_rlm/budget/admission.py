"""Admission of calls: whether one may be sent beside those in flight, and how long its reply may be.

Pure decisions; `ledger.py` does the booking."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from dspy_rlm.budget.budget import Price
from dspy_rlm.budget.token_bounds import Prompt

# Tokens reserved for the reply while other calls are in flight: longer replies are rare. It is also the first
# limit of an LM without one of its own; a server may refuse a limit above its context length.
ROOM_FOR_A_REPLY = 8_192

# The limit of such an LM after a reply was cut.
LONGEST_REPLY = 65_536

# A call with less room for its reply is not worth sending.
SHORTEST_REPLY = 256

# If a price is learned from calls with short replies, a long reply may be expensive: then the limit is a small
# multiple of the longest reply so far, and at least this.
USUAL_REPLY = 16

# The share of what is left that one call of many may take for a long reply.
SHARE = 1 / 16


@dataclasses.dataclass(frozen=True)
class Amount:
    """Tokens, US dollars and seconds."""

    tokens: float = 0
    cost: float = 0.0
    seconds: float = 0.0

    def plus(self, other: Amount) -> Amount:
        """Returns the sum."""
        return Amount(
            self.tokens + other.tokens, self.cost + other.cost, self.seconds + other.seconds
        )

    def minus(self, other: Amount) -> Amount:
        """Returns the difference."""
        return Amount(
            self.tokens - other.tokens, self.cost - other.cost, self.seconds - other.seconds
        )


@dataclasses.dataclass(frozen=True)
class Room:
    """Tokens and US dollars that may be spent; infinite where there is no limit."""

    tokens: float = math.inf
    cost: float = math.inf

    def has(self, amount: Amount) -> bool:
        """Returns whether the amount fits. Once nothing is left, not even a free call does."""
        return 0 < self.tokens >= amount.tokens and 0 < self.cost >= amount.cost

    def share(self) -> Room:
        """Returns the share for one call of many."""
        return Room(self.tokens * SHARE, self.cost * SHARE)


@dataclasses.dataclass(frozen=True)
class CallPlan:
    """A call that is to be sent, with what bounds it."""

    model: str
    prompt: Prompt
    kind: str = ""
    depth: int = 0
    chars: int = 0
    """Characters of the prompt, for the report."""

    reply_tokens: int | None = None
    """The most tokens of a reply; None: the LM has no known limit."""

    longest_prompt: int | None = None
    """The most tokens of a prompt, if known."""

    cut_at: int = 0
    """The tokens after which a reply to this call was cut: the next one needs room for twice as many."""

    candidates: int = 1
    """Candidate replies. Each may be a request of its own."""

    price: Callable[[int], Price | None] = lambda _tokens: None
    """Returns the highest price for a prompt of this many tokens."""

    final: bool = False
    """True for the last call of a run. That of the root run may use what is held back for it."""

    @property
    def is_turn(self) -> bool:
        """True if it is a turn of a run, including the extraction."""
        return self.kind in ("action", "extract")

    @property
    def is_single(self) -> bool:
        """True if the run makes no other call at the same time."""
        return (self.is_turn or self.kind == "compact") and self.depth == 0

    @property
    def counted_as(self) -> tuple[Any, ...]:
        """A key that calls with similar prompts share."""
        return self.depth, "turn" if self.is_turn else self.kind

    @property
    def asks_for(self) -> int:
        """The tokens of a reply to reserve if possible."""
        if self.reply_tokens is not None:
            return self.reply_tokens
        return self.longest_reply if self.cut_at else ROOM_FOR_A_REPLY

    @property
    def longest_reply(self) -> int:
        """The tokens beyond which a reply that was cut is not asked for again."""
        return LONGEST_REPLY if self.reply_tokens is None else self.reply_tokens

    def needs(self, usual: int | None) -> int:
        """Returns the tokens of a reply without which it waits for other calls. `usual` is the longest so far."""
        room = ROOM_FOR_A_REPLY if usual is None else max(4 * usual, USUAL_REPLY)
        return min(self.asks_for, max(2 * self.cut_at, room))

    def least(self, usual: int | None) -> int:
        """Returns the tokens of a reply without which it is refused."""
        room = SHORTEST_REPLY if usual is None else max(2 * usual, USUAL_REPLY)
        return min(self.asks_for, max(2 * self.cut_at, room))


Bound = Callable[[int], Amount]
"""Returns the upper bound of a call with a reply of at most this many tokens."""


def reply_now(plan: CallPlan, bound: Bound, room: Room, usual: int | None = None) -> int | None:
    """Returns the limit of the reply beside calls in flight; None if the call has to wait for them.

    It is the LM's own limit, or less if that would be a large part of what is left.
    """
    part = room if plan.is_single or plan.cut_at else room.share()
    reply, needs = plan.asks_for, plan.needs(usual)
    while reply > needs:
        most = bound(reply)
        if room.has(most) and part.has(most.minus(bound(0))):
            return reply
        reply //= 2
    return needs if room.has(bound(needs)) else None


def reply_ever(plan: CallPlan, bound: Bound, room: Room, usual: int | None = None) -> int | None:
    """Returns the limit of the reply with nothing else in flight; None if the call cannot be sent."""
    reply, least = plan.asks_for, plan.least(usual)
    while not room.has(bound(reply)):
        if reply <= least:
            return None
        # Halved rather than fitted exactly: equal calls stay equal, for caches.
        reply = max(reply // 2, least)
    return reply
