"""LMs whose calls are on a ledger: reserved before they are made, settled after.

A metered LM is a copy of the user's own, of a class made for it, so that DSPy treats it as what it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import dspy
from dspy.clients.call_context import adapter_fallback_scope
from dspy.utils.exceptions import LMError, is_retryable_lm_error
from dspy.utils.usage_tracker import UsageTracker

from dspy_rlm.budget import Call, Ledger
from dspy_rlm.stopping import Stop
from dspy_rlm.streams import reachable
from sandbox_runtime import check_call, without_secrets

# A rule of thumb, for an estimate before the LM itself has counted.
CHARS_PER_TOKEN = 4


@dataclasses.dataclass
class Meter:
    """Where the calls of one metered LM are booked."""

    ledger: Ledger
    kind: str
    """What the calls are for: see `Call.kind`."""

    depth: int
    stop: Stop = dataclasses.field(default_factory=Stop)
    """What ends the calls that are under way, and lets no other be made."""

    final: bool = False
    """See `Ledger.reserve`."""

    charged: bool = True
    """Whether calls count towards `max_llm_calls`."""

    prepaid: int = 0
    """Calls that were charged already."""

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """DSPy's settings for the calls."""

    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # guards `prepaid`

    def give_back(self) -> None:
        """Takes back what was charged beforehand and not used."""
        with self._lock:
            unused, self.prepaid = self.prepaid, 0
        self.ledger.give_back_llm_calls(unused)

    @contextlib.contextmanager
    def metering(self, lm: Any, prompt: Any, options: Mapping[str, Any]) -> Iterator[_Reading]:
        """Books one call of an LM. The reading takes its outputs.

        Raises:
            BudgetExceededError: It does not fit into the budget; it is not made.
            RunEndedError: The run has ended; it is not made.
        """
        self.stop.check()
        check_call()
        chars = _chars(prompt) + _chars(options.get("messages")) + _chars(options.get("request"))
        self._charge()
        try:
            ticket = self.ledger.reserve(
                lm.model, chars // CHARS_PER_TOKEN, depth=self.depth, final=self.final
            )
        except BaseException:
            self._refund()
            raise
        reading = _Reading(dspy.settings.usage_tracker)
        began, error = time.monotonic(), ""
        callers = [*(dspy.settings.caller_modules or []), reading]
        try:
            with dspy.context(usage_tracker=reading, caller_modules=callers, **self._settings()):
                yield reading
        except BaseException as failure:
            if not isinstance(failure, Exception) or type(failure) is type(self.stop.reason):
                reading.give_up()
            error = without_secrets(
                f"{type(failure).__name__}: {failure}", [getattr(lm, "kwargs", {}).get("api_key")]
            )
            raise
        finally:
            cached = not error and not reading.billed
            call = Call(
                self.kind, str(lm.model), self.depth, chars, reading.chars, time.monotonic() - began,
                reading.tokens("prompt_tokens"), reading.tokens("completion_tokens"),
                reading.cost, cached, error[:500],
            )  # fmt: skip
            self.ledger.settle(ticket, call)
            if cached:
                self._refund()

    def _settings(self) -> Mapping[str, Any]:
        # Many calls that code causes go on at once, and no listener knows whose pieces would arrive.
        return {**self.settings, "send_stream": None} if self.charged else self.settings

    def _charge(self) -> None:
        if not self.charged:
            return
        with self._lock:
            if self.prepaid:
                self.prepaid -= 1
                return
        self.ledger.charge_llm_calls(1)

    def _refund(self) -> None:
        if self.charged:
            self.ledger.give_back_llm_calls(1)


class _Reading(UsageTracker):
    """What DSPy tells of one call. It is the call's usage tracker and keeps its entry of the history."""

    def __init__(self, outer: Any) -> None:
        super().__init__()
        self.billed = False
        """Whether the LM was really asked: DSPy reports no usage of what its cache answered."""
        self.history: list[dict[str, Any]] = []
        self.chars = 0
        self.under_way = False
        """Whether an answer is waited for."""
        self._abandoned = False
        self._outer = outer

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """See `UsageTracker`. The caller's own tracker hears of it too."""
        self.billed = True
        super().add_usage(lm, usage_entry)
        if self._outer is not None:
            self._outer.add_usage(lm, usage_entry)

    def give_up(self) -> None:
        """Nobody will learn what a call took that is under way."""
        self._abandoned = self.under_way and not self.billed

    def take(self, outputs: Any) -> Any:
        """Counts what was answered, and gives it back."""
        self.chars = _chars(outputs)
        return outputs

    def tokens(self, name: str) -> int | None:
        """A count of the usage; None if the LM did not tell."""
        if not self.billed:
            return None if self._abandoned else 0
        counts = [u.get(name) for usages in self.usage_data.values() for u in usages]
        known = [count for count in counts if isinstance(count, int)]
        return sum(known) if known and len(known) == len(counts) else None

    @property
    def cost(self) -> float | None:
        """US dollars; None if the price is unknown, or DSPy keeps no history to read it from."""
        if not self.billed:
            return None if self._abandoned else 0.0
        costs = [entry.get("cost") for entry in self.history]
        known = [cost for cost in costs if isinstance(cost, (int, float))]
        return float(sum(known)) if known and len(known) == len(costs) else None


class _Metered:
    """What a metered LM does otherwise."""

    _meter: Meter
    _tries = 0
    """How often a call that fails is made again here, and not by DSPy: see `metered`."""

    def __call__(self, prompt: Any = None, **options: Any) -> Any:
        call = functools.partial(super().__call__, prompt, **options)  # type: ignore[misc]
        stop = self._meter.stop
        with self._meter.metering(self, prompt, options) as reading:
            reading.under_way = True
            if not stop.expected:
                return reading.take(call())
            attempt = 0
            while True:
                with adapter_fallback_scope() as streamed:
                    try:
                        return reading.take(stop.abandoning(reachable(call)))
                    except LMError as error:
                        seconds = self._delay(error, attempt, streamed.emitted)
                reading.under_way = False
                stop.sleep(seconds)
                check_call()
                reading.under_way, attempt = True, attempt + 1

    async def acall(self, prompt: Any = None, **options: Any) -> Any:
        """See `BaseLM.acall`."""
        call = functools.partial(super().acall, prompt, **options)  # type: ignore[misc]
        stop = self._meter.stop
        with self._meter.metering(self, prompt, options) as reading:
            reading.under_way = True
            attempt = 0
            while True:
                with adapter_fallback_scope() as streamed:
                    try:
                        return reading.take(await stop.abandoning_async(call()))
                    except LMError as error:
                        seconds = self._delay(error, attempt, streamed.emitted)
                reading.under_way = False
                await stop.abandoning_async(asyncio.sleep(seconds))
                reading.under_way, attempt = True, attempt + 1

    def _delay(self, error: LMError, attempt: int, streamed: bool) -> float:
        """The seconds until the next try, as DSPy has them. Raises the error where there is none."""
        if streamed or attempt >= self._tries or not is_retryable_lm_error(error):
            raise error
        hint = getattr(error, "retry_after", None)
        return hint if isinstance(hint, (int, float)) else float(2 ** min(attempt, 6))


def metered(lm: dspy.BaseLM, meter: Meter) -> dspy.BaseLM:
    """The LM with its calls on a ledger. It shares the history and the callbacks of the original.

    Where a run can be stopped, calls are made again here: DSPy would go on with it after one was abandoned,
    and each try is a request.
    """
    if isinstance(lm, _Metered):
        lm = lm._unmetered  # type: ignore[attr-defined]
    kind: Any = type(lm)
    made: Any = lm.copy()
    made.__class__ = _metered_class(kind)
    made.history, made.callbacks = lm.history, lm.callbacks
    made._meter, made._unmetered = meter, lm
    if meter.stop.expected and _is_tried_again(lm):
        made._tries, made.num_retries = made.num_retries, 0
    return made


def _is_tried_again(lm: dspy.BaseLM) -> bool:
    """Whether DSPy makes calls again: not where an LM has a `forward` of its own."""
    return isinstance(lm, dspy.LM) and all(
        name not in vars(lm) and getattr(type(lm), name) is getattr(dspy.LM, name)
        for name in ("forward", "aforward")
    )


@functools.cache
def _metered_class(kind: Any) -> type:
    return type(kind.__name__, (_Metered, kind), {"__module__": kind.__module__})


def _chars(content: Any) -> int:
    """About how much text there is in a prompt or a reply."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, Mapping):
        return sum(_chars(content.get(key)) for key in ("content", "text"))
    if isinstance(content, (list, tuple)):
        return sum(map(_chars, content))
    parts = getattr(content, "messages", None) or getattr(content, "parts", None)
    return _chars(parts) if parts is not None else _chars(getattr(content, "text", ""))
