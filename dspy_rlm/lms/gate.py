"""The number of calls of one LM at once: at most the setting, and fewer while the server refuses some of them.

A server with a few slots, or a key with a limit of parallel requests, answers 429 to the rest. After such an answer
only as many calls are sent as the server had accepted at that moment; each run of answers allows one more
(additive increase, as in TCP's congestion control, RFC 5681). A `Retry-After` holds back all calls of the LM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any

import dspy

from dspy_rlm.concurrency.waiting import wait_async
from dspy_rlm.errors import SignatureError

# Calls of one LM in flight at the same time.
DEFAULT_CONCURRENCY = 16

# Rounds of answers without a refusal before one more call is sent at once: each attempt may cost a refused request.
ROUNDS_TO_GROW = 4

Concurrency = int | Mapping[str, int] | None


class Entry:
    """A place in the queue of a gate, then one of its calls in flight."""

    def __init__(self, gate: Gate) -> None:
        self.granted: Future[None] = Future()
        self._gate = gate

    def wait(self) -> None:
        """Blocks until the call may be sent, or the entry is left."""
        with contextlib.suppress(CancelledError):
            self.granted.result()

    async def soon(self) -> None:
        """Like `wait`, for an event loop."""
        await wait_async(self.granted)

    def seconds_held_back(self) -> float:
        """Returns the rest of the time for which the server asked to send nothing."""
        return self._gate.seconds_held_back()

    def answered(self) -> None:
        """Records that the server took the call."""
        self._gate.grow()

    def refused(self, retry_after: float | None) -> bool:
        """Records that the server refused the call; returns whether others were in flight beside it."""
        return self._gate.shrink(retry_after)

    def leave(self) -> None:
        """Leaves the queue, or ends the call. Idempotent; never blocks."""
        self._gate.leave(self)


class Gate:
    """The calls of one LM in flight, and those that wait. Thread-safe."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates a gate for at most `most` calls at once. `clock` returns seconds."""
        self.most = most
        self._clock = clock
        self._lock = threading.Lock()  # guards everything below
        self._room = float(most)
        self._in_flight: set[Entry] = set()
        self._waiting: deque[Entry] = deque()
        self._held_until = 0.0

    @property
    def room(self) -> int:
        """The calls that may be in flight at present."""
        return int(self._room)

    def enter(self) -> Entry:
        """Queues a call, to be waited for."""
        entry = Entry(self)
        with self._lock:
            self._waiting.append(entry)
            self._admit()
        return entry

    def leave(self, entry: Entry) -> None:
        """See `Entry.leave`."""
        with self._lock:
            if entry in self._in_flight:
                self._in_flight.discard(entry)
            elif entry in self._waiting:
                self._waiting.remove(entry)
            entry.granted.cancel()
            self._admit()

    def grow(self) -> None:
        """Allows a little more after an answer."""
        with self._lock:
            self._room = min(self.most, self._room + 1 / (ROUNDS_TO_GROW * self._room))
            self._admit()

    def shrink(self, retry_after: float | None) -> bool:
        """Allows only as many calls as are in flight beside a refused one; see `Entry.refused`."""
        with self._lock:
            others = len(self._in_flight) - 1
            self._room = float(max(1, min(int(self._room), others)))
            if retry_after:
                self._held_until = max(self._held_until, self._clock() + retry_after)
            return others > 0

    def seconds_held_back(self) -> float:
        """See `Entry.seconds_held_back`."""
        with self._lock:
            return max(0.0, self._held_until - self._clock())

    def _admit(self) -> None:
        while self._waiting and len(self._in_flight) < int(self._room):
            entry = self._waiting.popleft()
            with contextlib.suppress(InvalidStateError):  # left meanwhile
                entry.granted.set_result(None)
                self._in_flight.add(entry)


@dataclasses.dataclass
class Gates:
    """The gates of a run with its sub-runs, by LM."""

    concurrency: Concurrency = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The names of sub-LMs, with their models."""

    _gates: dict[Any, Gate] = dataclasses.field(default_factory=dict)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # guards _gates

    def of(self, lm: dspy.BaseLM) -> Gate:
        """Returns the gate of an LM. LMs with the same model and address share one."""
        options = getattr(lm, "kwargs", {})
        key = lm.model, options.get("api_base") or options.get("base_url")
        with self._lock:
            if key not in self._gates:
                self._gates[key] = Gate(self._most(lm.model))
            return self._gates[key]

    @property
    def most(self) -> int:
        """The most calls of any LM at once: the threads that a batch can use."""
        if isinstance(self.concurrency, Mapping):
            return max([DEFAULT_CONCURRENCY, *self.concurrency.values()])
        return self.concurrency or DEFAULT_CONCURRENCY

    def _most(self, model: str) -> int:
        if not isinstance(self.concurrency, Mapping):
            return self.concurrency or DEFAULT_CONCURRENCY
        named = [self.concurrency.get(name) for name, its in self.names.items() if its == model]
        found = [most for most in (*named, self.concurrency.get(model)) if most]
        return min(found, default=DEFAULT_CONCURRENCY)


def check_concurrency(concurrency: Any) -> Concurrency:
    """Returns the setting `max_concurrency`, checked.

    Raises:
        SignatureError: It is neither a number nor numbers by model.
    """
    counts = concurrency.values() if isinstance(concurrency, Mapping) else [concurrency]
    if concurrency is not None and not all(type(n) is int and n >= 1 for n in counts):
        raise SignatureError(
            f"max_concurrency must be a whole number, 1 or more, or such numbers by sub-LM, not {concurrency!r}."
        )
    return dict(concurrency) if isinstance(concurrency, Mapping) else concurrency
