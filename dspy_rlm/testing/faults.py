"""Fault plans: which requests go wrong on purpose, and how. Decides; `server.py` carries it out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from dspy_rlm.testing.chat import ChatRequest


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong: an error status, a broken reply, a slow one, or slow and broken.

    At most one of `status`, `drop_connection`, `cut_off` and `malformed_body` may be given; with
    none of them the reply is right and only `delay_seconds` late.
    """

    status: int | None = None
    """Answer with this HTTP error status, e.g. 500 or 429; the player is not asked."""

    message: str = "The server was told to fail."
    """The text of the error that goes with `status`."""

    retry_after_seconds: float | None = 0.0
    """The Retry-After header that goes with `status`; None sends none.

    Zero by default, so that a client that obeys it retries at once and tests need not wait.
    """

    drop_connection: bool = False
    """Close the connection without a byte of reply; the player is not asked."""

    cut_off: bool = False
    """Close the connection in the middle of the right reply."""

    malformed_body: bool = False
    """Answer with status 200 and a body that is not JSON; the player is not asked."""

    delay_seconds: float = 0.0
    """Wait this long first. Closing the server ends the wait."""

    times: int | None = 1
    """How many requests go wrong; None means every one."""

    after: int = 0
    """How many requests are answered properly first."""

    only: Callable[[ChatRequest], bool] | None = None
    """Concerns only requests that this accepts; others neither fail nor count.

    It must return at once: other requests wait for it.
    """

    def __post_init__(self) -> None:
        """Refuse a fault that contradicts itself or would do nothing."""
        kinds = [self.status is not None, self.drop_connection, self.cut_off, self.malformed_body]
        if sum(kinds) > 1:
            raise ValueError(
                "A fault is one of status, drop_connection, cut_off and malformed_body."
            )
        if not any(kinds) and self.delay_seconds <= 0:
            raise ValueError(
                "This fault does nothing: give it a status, drop_connection, cut_off, "
                "malformed_body or delay_seconds."
            )
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError(f"An error status is 400 to 599, not {self.status}.")


class FaultPlan:
    """The faults of each model, spent in order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _planned and every count in it
        self._planned: dict[str, list[_Planned]] = {}

    def add(self, model: str, fault: Fault) -> None:
        """Plan a fault behind those the model already has."""
        with self._lock:
            self._planned.setdefault(model, []).append(_Planned(fault))

    def take(self, request: ChatRequest) -> Fault | None:
        """The fault this request meets, which is then spent once; None if all goes well.

        A request meets the first fault that is not spent and concerns it. While that one waits
        for its `after`, later ones wait too.
        """
        with self._lock:
            for planned in self._planned.get(request.model, []):
                if planned.concerns(request):
                    return planned.count()
        return None


class _Planned:
    """A fault and the number of requests it has met."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._met = 0

    def concerns(self, request: ChatRequest) -> bool:
        times, only = self._fault.times, self._fault.only
        spent = times is not None and self._met >= self._fault.after + times
        return not spent and (only is None or only(request))

    def count(self) -> Fault | None:
        self._met += 1
        return self._fault if self._met > self._fault.after else None
