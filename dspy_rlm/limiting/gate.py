"""The number of calls of one LM that a run has in flight: the setting `max_concurrency`.

A limit that the program has set is that of a server or a key, so all runs of the process share its gate. What the server itself
allows, and limits per minute, are in `limiter.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any
from weakref import WeakValueDictionary

import dspy

from dspy_rlm.concurrency.waiting import wait_async, wait_blocking
from dspy_rlm.errors import SignatureError

# Calls of one LM in flight at the same time.
DEFAULT_CONCURRENCY = 16

Concurrency = int | Mapping[str, int] | None


class Entry:
    """A place in the queue of a gate, then one of its calls in flight."""

    def __init__(self, gate: Gate) -> None:
        self.granted: Future[None] = Future()
        self._gate = gate

    def wait(self) -> None:
        """Blocks until the call may be sent, or the entry is left."""
        wait_blocking(self.granted)

    async def soon(self) -> None:
        """Like `wait`, for an event loop."""
        await wait_async(self.granted)

    def leave(self) -> None:
        """Leaves the queue, or ends the call. Idempotent; never blocks."""
        self._gate.leave(self)


class Gate:
    """The calls of one LM in flight, and those that wait. Thread-safe."""

    def __init__(self, most: int) -> None:
        """Creates a gate for at most `most` calls at once."""
        self.most = most
        self._lock = threading.Lock()  # guards everything below
        self._in_flight: set[Entry] = set()
        self._waiting: deque[Entry] = deque()

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

    def _admit(self) -> None:
        while self._waiting and len(self._in_flight) < self.most:
            entry = self._waiting.popleft()
            with contextlib.suppress(InvalidStateError):  # left meanwhile
                entry.granted.set_result(None)
                self._in_flight.add(entry)


_shared: WeakValueDictionary[Any, Gate] = WeakValueDictionary()
_shared_lock = threading.Lock()  # guards _shared


@dataclasses.dataclass
class Gates:
    """The gates of a run with its sub-runs, by LM.

    A limit that the program has set is that of a server or a key, so all runs of the process share its gate.
    """

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
                most = self._most(lm.model)
                self._gates[key] = Gate(DEFAULT_CONCURRENCY) if most is None else _of_all(key, most)
            return self._gates[key]

    @property
    def most(self) -> int:
        """The most calls of any LM at once: the threads that a batch can use."""
        if isinstance(self.concurrency, Mapping):
            return max([DEFAULT_CONCURRENCY, *self.concurrency.values()])
        return self.concurrency or DEFAULT_CONCURRENCY

    def _most(self, model: str) -> int | None:
        """Returns the limit that the program has set for a model; None for none."""
        if not isinstance(self.concurrency, Mapping):
            return self.concurrency
        named = [self.concurrency.get(name) for name, its in self.names.items() if its == model]
        found = [most for most in (*named, self.concurrency.get(model)) if most]
        return min(found, default=None)


def _of_all(key: Any, most: int) -> Gate:
    """Returns the gate of an LM with this limit that all runs in progress share."""
    with _shared_lock:
        gate = _shared.get((key, most))
        if gate is None:
            gate = _shared[key, most] = Gate(most)
        return gate


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
