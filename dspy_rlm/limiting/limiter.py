"""The limits of one model for all runs of the process: calls in flight, requests and tokens per minute.

Limits that the program knows are set by `dspy_rlm.configure(limits_per_model=...)`. Others are learned: a server with a
few slots, or a key with a limit of parallel requests, answers 429 to the rest. After such an answer only as many calls are
sent as the server had accepted at that moment; each run of answers allows one more (additive increase, as in TCP's
congestion control, RFC 5681). A `Retry-After` holds back all calls of the model. What was learned is for the server that
answered: it is forgotten when the server cannot be reached, and after a minute without a call, as TCP forgets its window
(RFC 5681, section 4.1), because the next server at this address may be another, with more slots.

Calls are sent in the order of their arrival, of whatever run they are; a run's own limit (`gate.py`) bounds how many of them it
can have in the queue. Turns of root runs go first: their sub-calls wait for them, not the reverse.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

import dspy

from dspy_rlm.concurrency.waiting import wait_async, wait_blocking
from dspy_rlm.limiting.rate_window import NO_LIMITS, ModelLimits, RateWindow, Slot
from dspy_rlm.process_settings import process_settings

# Rounds of answers without a refusal before one more call is sent at once: each attempt may cost a refused request.
ROUNDS_TO_GROW = 4

# The tokens that a reply is expected to have before one was seen.
USUAL_REPLY_TOKENS = 256

# The weight of the latest reply in the average of their tokens.
LATEST = 0.25

# A limiter is dropped after this time without a call; longer than the window of its limits.
IDLE_SECONDS = 600.0

# After this time without a call, what a server has taught is forgotten. To learn it again costs a few refused requests.
LEARNED_SECONDS = 60.0

# The longest time for which a `Retry-After` holds back the calls of all runs. Then one asks again: the server may be another,
# and a run that waits for hours, or for a number that no clock has, would look as if it hung.
MOST_HELD_SECONDS = 60.0

# A waiting call looks at the limits again at least so often: others may have taken less than was expected.
LOOK_AGAIN_SECONDS = 0.5


class Permit:
    """A place in the queue of a limiter, then one of its calls in flight."""

    def __init__(self, limiter: Limiter, prompt_tokens: int, *, first: bool) -> None:
        self.granted: Future[None] = Future()
        self.first = first
        self.prompt_tokens = prompt_tokens
        self.slot: Slot | None = None
        self._limiter = limiter

    def wait(self) -> None:
        """Blocks until the call is among those in flight, or the permit is left."""
        wait_blocking(self.granted)

    async def soon(self) -> None:
        """Like `wait`, for an event loop."""
        await wait_async(self.granted)

    def seconds_held_back(self) -> float:
        """Returns the seconds to wait before asking again; 0 if the call may be sent now, which is then booked."""
        return self._limiter.seconds_held_back(self)

    def answered(self) -> None:
        """Records that the server took the call."""
        self._limiter.grow()

    def used(self, tokens: tuple[int | None, int | None], *, sent: bool) -> None:
        """Records the tokens of the prompt and the reply of a call that has ended; `sent` is false if a cache answered."""
        self._limiter.book(self, tokens, sent=sent)

    def refused(self, retry_after: float | None) -> bool:
        """Records that the server refused the call; returns whether others were in flight beside it."""
        return self._limiter.shrink(retry_after)

    def unreachable(self) -> None:
        """Records that there was no server at the address. The next one there may allow more calls at once."""
        self._limiter.forget_room()

    def leave(self) -> None:
        """Leaves the queue, or ends the call. Idempotent; never blocks."""
        self._limiter.leave(self)


class Limiter:
    """The calls of one model in flight, those that wait, and those of the last minute. Thread-safe."""

    def __init__(
        self,
        limits: Callable[[], ModelLimits] = lambda: NO_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates a limiter. `limits` returns those that are set at present, `clock` seconds."""
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()  # guards everything below
        self._learned: float | None = None
        self._in_flight: set[Permit] = set()
        self._waiting: deque[Permit] = deque()
        self._window = RateWindow()
        self._held_until = 0.0
        self._usual_reply = float(USUAL_REPLY_TOKENS)
        self._last_used = clock()

    @property
    def room(self) -> int | None:
        """The calls that may be in flight at present; None: any number."""
        most = self._limits().concurrency
        if self._learned is None:
            return most
        return int(self._learned) if most is None else min(most, int(self._learned))

    def enter(self, prompt_tokens: int = 0, *, first: bool = False) -> Permit:
        """Queues a call, to be waited for. With `first`, it precedes those that are not."""
        permit = Permit(self, prompt_tokens, first=first)
        with self._lock:
            now = self._clock()
            if now >= self._last_used + LEARNED_SECONDS and not (self._in_flight or self._waiting):
                self._learned = None
            self._last_used = now
            ahead = sum(1 for other in self._waiting if other.first) if first else None
            if ahead is None:
                self._waiting.append(permit)
            else:
                self._waiting.insert(ahead, permit)
            self._admit()
        return permit

    def leave(self, permit: Permit) -> None:
        """See `Permit.leave`."""
        with self._lock:
            self._last_used = self._clock()
            if permit in self._in_flight:
                self._in_flight.discard(permit)
            elif permit in self._waiting:
                self._waiting.remove(permit)
            if permit.slot is not None and not permit.slot.sent:
                self._window.remove(permit.slot)
            permit.granted.cancel()
            self._admit()

    def seconds_held_back(self, permit: Permit) -> float:
        """See `Permit.seconds_held_back`."""
        with self._lock:
            now = self._clock()
            held = self._held_until - now
            if held > 0:
                return held
            limits = self._limits()
            if limits.requests_per_minute is None and limits.tokens_per_minute is None:
                return 0.0
            if permit.slot is None:
                expected = permit.prompt_tokens + int(self._usual_reply)
                permit.slot = self._window.add(now, expected)
            return min(self._window.wait(permit.slot, now, limits), LOOK_AGAIN_SECONDS)

    def book(self, permit: Permit, tokens: tuple[int | None, int | None], *, sent: bool) -> None:
        """See `Permit.used`."""
        prompt, reply = tokens
        with self._lock:
            if sent and reply:
                self._usual_reply += LATEST * (reply - self._usual_reply)
            if permit.slot is None:
                return
            if not sent:
                self._window.remove(permit.slot)
            elif prompt is not None and reply is not None:
                permit.slot.tokens = prompt + reply

    def grow(self) -> None:
        """Allows a little more after an answer."""
        with self._lock:
            if self._learned is not None:
                self._learned += 1 / (ROUNDS_TO_GROW * self._learned)
                self._admit()

    def shrink(self, retry_after: float | None) -> bool:
        """Allows only as many calls as are in flight beside a refused one; see `Permit.refused`."""
        with self._lock:
            others = len(self._in_flight) - 1
            room = self.room
            self._learned = float(max(1, others if room is None else min(room, others)))
            if retry_after:
                held = min(retry_after, MOST_HELD_SECONDS)
                self._held_until = max(self._held_until, self._clock() + held)
            return others > 0

    def forget(self) -> None:
        """Forgets what the server has said. Limits that are set stay."""
        with self._lock:
            self._held_until = 0.0
        self.forget_room()

    def forget_room(self) -> None:
        """Forgets how many calls at once the server has taken, but not when it may be asked again."""
        with self._lock:
            self._learned = None
            self._admit()

    def is_idle(self) -> bool:
        """Returns whether nothing of this limiter matters any more."""
        with self._lock:
            now = self._clock()
            self._window.forget(now)
            is_used = self._in_flight or self._waiting or len(self._window) > 0
            return not is_used and now >= max(self._held_until, self._last_used + IDLE_SECONDS)

    def _admit(self) -> None:
        room = self.room
        while self._waiting and (room is None or len(self._in_flight) < room):
            permit = self._waiting.popleft()
            with contextlib.suppress(InvalidStateError):  # left meanwhile
                permit.granted.set_result(None)
                self._in_flight.add(permit)


class Limiters:
    """The limiters of all models of the process, by model and address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards _limiters
        self._limiters: dict[Any, Limiter] = {}

    def __len__(self) -> int:
        return len(self._limiters)

    def forget(self, address: str) -> None:
        """Forgets what was learned of all models at an address (`api_base`), where another server is now."""
        with self._lock:
            limiters = [one for (_, its), one in self._limiters.items() if its == address]
        for limiter in limiters:
            limiter.forget()

    def of(self, lm: dspy.BaseLM) -> Limiter:
        """Returns the limiter of an LM. LMs with the same model and address share one.

        A new one takes the place of those that have become idle.
        """
        options = getattr(lm, "kwargs", {})
        model = str(lm.model)
        key = model, options.get("api_base") or options.get("base_url")
        with self._lock:
            limiter = self._limiters.get(key)
            if limiter is None:
                for idle in [key for key, one in self._limiters.items() if one.is_idle()]:
                    del self._limiters[idle]
                limiter = self._limiters[key] = Limiter(lambda: _limits_of(model), self._clock)
            return limiter


def _limits_of(model: str) -> ModelLimits:
    limits: ModelLimits = process_settings().limits_per_model.get(model, NO_LIMITS)
    return limits


LIMITERS = Limiters()
"""Those of this process."""
