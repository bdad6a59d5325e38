"""Whether a call may be sent beside those under way, and how long its reply may be. Decides; books nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from dspy_rlm.budget.budget import Price
from dspy_rlm.budget.token_bounds import Prompt

# The reply that a call has room for while others are under way: longer ones are rare. An LM without a limit
# of its own is asked for so much at first; a server may refuse more than its context has room for.
ROOM_FOR_A_REPLY = 8_192

# Where one was cut, such an LM is asked for so much.
LONGEST_REPLY = 65_536

# With less room for its reply, a call is not worth sending.
SHORTEST_REPLY = 256

# Where a price is learned from calls with short replies, a long one may be dear: then they are let have a
# few times what the longest has had, and at least so much.
USUAL_REPLY = 16

# A call that may be one of many takes so much of what is left for a reply that is longer than most.
SHARE = 1 / 16


@dataclasses.dataclass(frozen=True)
class Amount:
    """Tokens, US dollars and seconds."""

    tokens: float = 0
    cost: float = 0.0
    seconds: float = 0.0

    def plus(self, other: Amount) -> Amount:
        """The sum of both."""
        return Amount(
            self.tokens + other.tokens, self.cost + other.cost, self.seconds + other.seconds
        )

    def minus(self, other: Amount) -> Amount:
        """The difference."""
        return Amount(
            self.tokens - other.tokens, self.cost - other.cost, self.seconds - other.seconds
        )


@dataclasses.dataclass(frozen=True)
class Room:
    """Tokens and US dollars that may be spent; infinite where there is no limit."""

    tokens: float = math.inf
    cost: float = math.inf

    def has(self, amount: Amount) -> bool:
        """Whether there is room for it. Nothing has room where nothing is left, be it free."""
        return 0 < self.tokens >= amount.tokens and 0 < self.cost >= amount.cost

    def share(self) -> Room:
        """The part of it for one call of many."""
        return Room(self.tokens * SHARE, self.cost * SHARE)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A call that is to be sent, and the most that it can take."""

    model: str
    prompt: Prompt
    kind: str = ""
    depth: int = 0
    chars: int = 0
    """Characters of the prompt, for the report."""

    reply_tokens: int | None = None
    """The most tokens that the LM answers with; None: it has no limit that is known."""

    longest_prompt: int | None = None
    """The most tokens that the model reads, if that is known."""

    cut_at: int = 0
    """A reply to this call was cut after so many tokens: it is to have room for twice as many."""

    candidates: int = 1
    """Answers that are asked for. Each may be a request of its own."""

    price: Callable[[int], Price | None] = lambda _tokens: None
    """The highest price for a prompt of so many tokens."""

    final: bool = False
    """The last call of a run. That of the root run has what was held back for it."""

    @property
    def is_turn(self) -> bool:
        """Whether it is a turn of a run, the extraction among them."""
        return self.kind in ("action", "extract")

    @property
    def is_single(self) -> bool:
        """Whether no other call is made for the same run at the same time."""
        return self.is_turn and self.depth == 0

    @property
    def counted_as(self) -> tuple[Any, ...]:
        """What the calls with similar prompts have in common."""
        return self.depth, "turn" if self.is_turn else self.kind

    @property
    def asks_for(self) -> int:
        """Tokens of a reply that it would like to have room for."""
        if self.reply_tokens is not None:
            return self.reply_tokens
        return LONGEST_REPLY if self.cut_at else ROOM_FOR_A_REPLY

    def needs(self, usual: int | None) -> int:
        """Tokens of a reply without which it waits for others. `usual` is what replies have had so far."""
        room = ROOM_FOR_A_REPLY if usual is None else max(4 * usual, USUAL_REPLY)
        return min(self.asks_for, max(2 * self.cut_at, room))

    def least(self, usual: int | None) -> int:
        """Tokens of a reply without which it is not sent."""
        room = SHORTEST_REPLY if usual is None else max(2 * usual, USUAL_REPLY)
        return min(self.asks_for, max(2 * self.cut_at, room))


Bound = Callable[[int], Amount]
"""The most that a call takes whose reply has at most so many tokens."""


def reply_now(wanted: Wanted, bound: Bound, room: Room, usual: int | None = None) -> int | None:
    """The tokens of a reply that the call is let have beside others; None if it has to wait for them.

    It is what the LM itself would answer with, or, where that is a large part of what is left, less.
    """
    part = room if wanted.is_single or wanted.cut_at else room.share()
    reply, needs = wanted.asks_for, wanted.needs(usual)
    while reply > needs:
        most = bound(reply)
        if room.has(most) and part.has(most.minus(bound(0))):
            return reply
        reply //= 2
    return needs if room.has(bound(needs)) else None


def reply_ever(wanted: Wanted, bound: Bound, room: Room, usual: int | None = None) -> int | None:
    """The tokens of a reply that it is let have when nothing else is under way; None: it cannot be sent."""
    reply, least = wanted.asks_for, wanted.least(usual)
    while not room.has(bound(reply)):
        if reply <= least:
            return None
        # Halved, not fitted: equal calls are to stay equal, for caches.
        reply = max(reply // 2, least)
    return reply
