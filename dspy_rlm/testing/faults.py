"""Fault injection: plans which requests fail, and how. `server.py` carries the plans out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from dspy_rlm.testing.chat import ChatRequest


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: an error status, a broken reply, a slow reply, or a slow and broken one.

    At most one of `status`, `drop_connection`, `cut_off` and `malformed_body` may be set; with
    none of them the reply is correct and only `delay_seconds` late.
    """

    status: int | None = None
    """Answer with this HTTP error status, e.g. 500 or 429, without calling the player."""

    message: str = "The server was told to fail."
    """The error message that is sent with `status`."""

    body: str | None = None
    """The whole body that is sent with `status`, instead of OpenAI's form with `message`: the words of another
    server. Only with it, the status may be 200."""

    retry_after_seconds: float | None = 0.0
    """The Retry-After header that is sent with `status`; None sends none.

    Zero by default, so that a client that obeys it retries at once and tests need not wait.
    """

    drop_connection: bool = False
    """Close the connection without a reply and without calling the player."""

    cut_off: bool = False
    """Close the connection in the middle of the correct reply."""

    malformed_body: bool = False
    """Answer with status 200 and a body that is not JSON, without calling the player."""

    delay_seconds: float = 0.0
    """The delay before the reply, in seconds. Closing the server ends it."""

    times: int | None = 1
    """The number of requests that fail; None means all."""

    after: int = 0
    """The number of requests that are answered correctly first."""

    only: Callable[[ChatRequest], bool] | None = None
    """A predicate: only requests that it accepts fail and count.

    It must return quickly: other requests wait for it.
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
                "This fault does nothing: set a status, drop_connection, cut_off, "
                "malformed_body or delay_seconds."
            )
        if self.body is not None and self.status is None:
            raise ValueError("A body needs the status that it is sent with.")
        allowed = self.status in (None, 200) if self.body is not None else self.status is None
        if not (allowed or 400 <= (self.status or 0) <= 599):
            raise ValueError(f"An error status is 400 to 599, not {self.status}.")


class FaultPlan:
    """The planned faults of each model, consumed in order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _planned and every count in it
        self._planned: dict[str, list[_Planned]] = {}

    def add(self, model: str, fault: Fault) -> None:
        """Add a fault after those the model already has."""
        with self._lock:
            self._planned.setdefault(model, []).append(_Planned(fault))

    def take(self, request: ChatRequest) -> Fault | None:
        """Returns the fault for this request and counts it as used; None if there is none.

        A request gets the first fault that is not used up and whose predicate accepts it. While that fault
        waits for its `after`, later faults wait too.
        """
        with self._lock:
            for planned in self._planned.get(request.model, []):
                if planned.concerns(request):
                    return planned.count()
        return None


class _Planned:
    """A fault and the number of requests that it has applied to."""

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
