"""LMs whose calls are on a ledger: bounded and reserved before they are sent, settled after.

A metered LM is a copy of the user's own, of a subclass of its class, so that DSPy treats it alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import dspy
from dspy import LMError, is_retryable_lm_error

from dspy_rlm.budget.admission import CallPlan
from dspy_rlm.budget.ledger import Ledger, Reservation, Spent
from dspy_rlm.budget.prices import Model, described
from dspy_rlm.budget.token_bounds import Prompt, prompt_of
from dspy_rlm.concurrency.anyio_threads import reachable
from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.dspy_internals.lm_calls import adapter_fallback_scope
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.lms.call_readings import Reading, characters, may_be_charged
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.redaction import cleaning
from dspy_rlm.report import Call
from sandbox_runtime import check_call
from sandbox_runtime.helpers import redact_secrets

# The options that limit the length of a reply; which one applies depends on the LM.
_REPLY_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

# Options for several candidate replies, each of which is charged.
_CANDIDATES = ("n", "num_generations", "best_of")


@dataclasses.dataclass
class Meter:
    """The account that the calls of one metered LM are booked on."""

    ledger: Ledger
    kind: str
    """The purpose of the calls: see `Call.kind`."""

    depth: int
    scope: CancelScope = dataclasses.field(default_factory=CancelScope)
    """Cancels the calls in flight, and refuses further ones."""

    final: bool = False
    """See `CallPlan.final`."""

    charged: bool = True
    """True if calls count towards `max_llm_calls`."""

    prepaid: int = 0
    """Calls that are charged already."""

    included: int = 0
    """Calls paid for with the sandbox that they use; not refunded on a cache hit."""

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """DSPy's settings for the calls."""

    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # guards both counts

    def give_back(self) -> None:
        """Refunds the prepaid calls that were not used."""
        with self._lock:
            unused, self.prepaid = self.prepaid, 0
        self.ledger.give_back_llm_calls(unused)

    def take_prepaid(self) -> int:
        """Takes one of the prepaid calls, for another meter; returns 0 if there is none."""
        with self._lock:
            calls = min(self.prepaid, 1)
            self.prepaid -= calls
            return calls

    @contextlib.contextmanager
    def charging(self) -> Iterator[Charge]:
        """Charges one call; refunds it if nothing was sent, or on a cache hit.

        Raises:
            BudgetExceededError: No call is left.
            RunEndedError: The run has ended.
        """
        self.scope.check()
        check_call()
        charge = Charge(given_back=self._charge())
        try:
            yield charge
        finally:
            if charge.given_back and not charge.sent:
                self.ledger.give_back_llm_calls(1)

    def _charge(self) -> bool:
        """Charges one call; returns whether it can be refunded."""
        if not self.charged:
            return False
        with self._lock:
            if self.included:
                self.included -= 1
                return False
            if self.prepaid:
                self.prepaid -= 1
                return True
        self.ledger.charge_llm_calls(1)
        return True

    def context(self) -> Mapping[str, Any]:
        """Returns DSPy's settings for a call."""
        # Sub-calls are concurrent, and a listener could not tell their chunks apart.
        return {**self.settings, "send_stream": None} if self.charged else self.settings


@dataclasses.dataclass
class Charge:
    """A call that was charged."""

    given_back: bool
    sent: bool = False
    """True if a request was sent, and no cache answered."""


class _Tries:
    """The tries of one call of a metered LM."""

    def __init__(self, lm: Any, prompt: Any, options: Mapping[str, Any], charge: Charge) -> None:
        self._lm, self._meter = lm, lm._meter
        self._prompt, self._options = prompt, dict(options)
        self._charge = charge
        self._failed = 0
        self._cut_at = 0
        arguments = {**getattr(lm, "kwargs", {}), **options}
        self._arguments = arguments
        self._chars = characters(prompt) + characters(arguments.get("messages"))
        self._chars += characters(arguments.get("request"))
        metered = self._meter.ledger.budget.is_metered
        self._parts = prompt_of(prompt, arguments) if metered else Prompt(())

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Reservation]:
        """Yields a reservation for the next try, to be waited for."""
        place = self._meter.ledger.reserve(self._plan())
        try:
            with self._meter.scope.on_cancel(place.leave_the_line):
                yield place
            self._meter.scope.check()
            check_call()
        except BaseException:
            place.leave()
            raise

    def _plan(self) -> CallPlan:
        meter, model = self._meter, self._lm._described
        counts = [c for name in _CANDIDATES if (c := _whole(self._arguments.get(name))) is not None]
        return CallPlan(
            model=str(self._lm.model),
            prompt=self._parts,
            kind=meter.kind,
            depth=meter.depth,
            chars=self._chars,
            reply_tokens=self._own_limit() or model.longest_reply,
            longest_prompt=model.longest_prompt,
            cut_at=self._cut_at,
            candidates=max([1, *counts]),
            price=functools.partial(_price, meter.ledger, self._lm, self._arguments),
            final=meter.final,
        )

    def _own_limit(self) -> int | None:
        """Returns the limit of the reply that the LM or the call sets."""
        request = self._request()
        if request is not None:
            return _whole(request.config.max_tokens)
        limits = [_whole(self._arguments.get(name)) for name in _REPLY_LIMITS]
        return max((limit for limit in limits if limit is not None), default=None)

    def _request(self) -> Any:
        """Returns DSPy's request object, if the call has one."""
        request = self._options.get("request") if self._prompt is None else self._prompt
        return request if hasattr(request, "config") else None

    def arguments(self, place: Reservation) -> tuple[Any, dict[str, Any]]:
        """Returns the LM's arguments, which limit its reply to what is reserved."""
        if not place.cuts:
            return self._prompt, self._options
        request, most = self._request(), place.reply_tokens
        if request is not None:
            config = dataclasses.replace(request.config, max_tokens=most)
            capped = dataclasses.replace(request, config=config)
            if self._prompt is not None:
                return capped, self._options
            return None, {**self._options, "request": capped}
        own = getattr(self._lm, "kwargs", {})
        names = (
            [name for name in _REPLY_LIMITS if self._arguments.get(name) is not None]
            or [name for name in _REPLY_LIMITS if name in own]
            or [_REPLY_LIMITS[0]]
        )
        return self._prompt, {**self._options, **dict.fromkeys(names, most)}

    @contextlib.contextmanager
    def sending(self, place: Reservation) -> Iterator[Reading]:
        """Books one try. The caller passes the outputs to the reading."""
        meter, lm = self._meter, self._lm
        reading = Reading(dspy.settings.usage_tracker)
        began, error = time.monotonic(), ""
        callers = [*(dspy.settings.caller_modules or []), reading]
        try:
            with dspy.context(usage_tracker=reading, caller_modules=callers, **meter.context()):
                yield reading
        except BaseException as failure:
            abandoned = type(failure) is type(meter.scope.reason)
            if abandoned or may_be_charged(failure):
                reading.give_up()
            error = redact_secrets(f"{type(failure).__name__}: {failure}", secrets_of_lm(lm))
            raise
        finally:
            cached = not error and not reading.billed
            self._charge.sent = self._charge.sent or not cached
            self._settle(place, reading, time.monotonic() - began, error, cached=cached)

    def _settle(
        self, place: Reservation, reading: Reading, seconds: float, error: str, *, cached: bool
    ) -> None:
        meter, model = self._meter, str(self._lm.model)
        tokens = reading.tokens("prompt_tokens"), reading.tokens("completion_tokens")
        cost = reading.cost
        own = meter.ledger.budget.price(model)
        if own is not None and reading.billed:
            cost = None if None in tokens else own.of(*tokens)
        call = Call(
            meter.kind, model, meter.depth, self._chars, reading.chars, seconds, *tokens, cost, cached,
            error[:500],
        )  # fmt: skip
        spent = Spent(call, not error, reading.bytes, reading.discounted)
        meter.ledger.settle(place, spent)

    def is_over(self, place: Reservation, reading: Reading, *, streamed: bool) -> bool:
        """Returns whether the reply is complete. One that was cut by the budget is requested again.

        Raises:
            BudgetExceededError: It cannot be requested again: a part of it was streamed.
        """
        self._lm.reply_was_cut = reading.is_cut(None)
        if not (place.cuts and reading.is_cut(place.reply_tokens)):
            return True
        self._cut_at = place.reply_tokens or 0
        if streamed:
            raise self._cut_error()
        return False

    def refused(self, error: BudgetExceededError) -> BudgetExceededError:
        """Returns the error for a try that is not admitted."""
        return self._cut_error() if self._cut_at and error.limit != "max_seconds" else error

    def _cut_error(self) -> BudgetExceededError:
        budget = self._meter.ledger.budget
        limit = "max_tokens" if budget.max_cost is None else "max_cost"
        return BudgetExceededError(
            f"The reply was cut after {self._cut_at:,} tokens, and the budget has no room for a longer one "
            f"({limit}). Ask for a shorter reply, or SUBMIT what there is.",
            limit=limit,
        )

    def pause(self, error: LMError, *, streamed: bool) -> float:
        """Returns the seconds until the next try, as DSPy does. Raises the error if there is none."""
        if streamed or self._failed >= self._lm._tries or not is_retryable_lm_error(error):
            raise error
        self._failed += 1
        hint = getattr(error, "retry_after", None)
        return hint if isinstance(hint, (int, float)) else float(2 ** min(self._failed - 1, 6))


class _Metered:
    """The calls of a metered LM: reserved, cancellable, retried and settled."""

    _meter: Meter
    reply_was_cut = False
    """True if the last reply ended at its limit of tokens."""
    _described = Model()
    """The entry of the model in DSPy's table; empty without a limit that needs it."""
    _tries = 0
    """Retries of a failed call that are made here instead of in DSPy: see `metered`."""

    def __call__(self, prompt: Any = None, **options: Any) -> Any:
        scope = self._meter.scope
        with self._meter.charging() as charge:
            tries = _Tries(self, prompt, options, charge)
            while True:
                try:
                    with tries.admitted() as place:
                        place.wait()
                        prompt, options = tries.arguments(place)
                except BudgetExceededError as error:
                    raise tries.refused(error) from error.__cause__
                call = functools.partial(super().__call__, prompt, **options)  # type: ignore[misc]
                with adapter_fallback_scope() as streamed:
                    try:
                        with tries.sending(place) as reading:
                            reading.under_way = True
                            sent = (
                                scope.run_abandonable(reachable(call))
                                if scope.cancellable
                                else call()
                            )
                            reply = reading.take(sent)
                    except LMError as error:
                        seconds = tries.pause(error, streamed=streamed.emitted)
                    else:
                        if tries.is_over(place, reading, streamed=streamed.emitted):
                            return reply
                        continue
                scope.sleep(seconds)

    async def acall(self, prompt: Any = None, **options: Any) -> Any:
        """See `BaseLM.acall`."""
        scope = self._meter.scope
        with self._meter.charging() as charge:
            tries = _Tries(self, prompt, options, charge)
            while True:
                try:
                    with tries.admitted() as place:
                        await place.soon()
                        prompt, options = tries.arguments(place)
                except BudgetExceededError as error:
                    raise tries.refused(error) from error.__cause__
                call = functools.partial(super().acall, prompt, **options)  # type: ignore[misc]
                with adapter_fallback_scope() as streamed:
                    try:
                        with tries.sending(place) as reading:
                            reading.under_way = True
                            reply = reading.take(await scope.run_abandonable_async(call()))
                    except LMError as error:
                        seconds = tries.pause(error, streamed=streamed.emitted)
                    else:
                        if tries.is_over(place, reading, streamed=streamed.emitted):
                            return reply
                        continue
                await scope.run_abandonable_async(asyncio.sleep(seconds))


class _Clean:
    """Redacts the LM's secrets from its exceptions: cells, prompts and reports may show them."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return cleaning(super().__call__, self._known)(*args, **options)  # type: ignore[misc]

    async def acall(self, *args: Any, **options: Any) -> Any:
        """See `BaseLM.acall`."""
        return await cleaning(super().acall, self._known)(*args, **options)  # type: ignore[misc]

    def _known(self) -> list[str]:
        return secrets_of_lm(self)


def metered(lm: dspy.BaseLM, meter: Meter) -> dspy.BaseLM:
    """Returns the LM with its calls on a ledger. It shares the history and the callbacks of the original.

    If the run can be cancelled, or its tokens are limited, calls are retried here: DSPy would go on retrying
    after a call was abandoned, and each try is a request that costs something.

    The first time, DSPy may download its table of prices, which can take seconds.
    """
    if isinstance(lm, _Metered):
        lm = lm._unmetered  # type: ignore[attr-defined]
    kind: Any = type(lm)
    copied: Any = lm.copy()
    copied.__class__ = _metered_class(kind)
    copied.history, copied.callbacks = lm.history, lm.callbacks
    copied._meter, copied._unmetered = meter, lm
    if meter.ledger.budget.is_metered:
        copied._described = described(lm)
    if (meter.scope.cancellable or meter.ledger.budget.is_metered) and _is_retried(lm):
        copied._tries, copied.num_retries = copied.num_retries, 0
    return copied


def metered_adapter(adapter: Any, meter: Meter) -> Any:
    """Returns the adapter with its own LM, such as that of DSPy's `TwoStepAdapter`, on the ledger too."""
    if not isinstance(getattr(adapter, "extraction_model", None), dspy.BaseLM):
        return adapter
    copied = copy.copy(adapter)
    copied.extraction_model = metered(adapter.extraction_model, meter)
    return copied


def _price(ledger: Ledger, lm: Any, options: Mapping[str, Any], input_tokens: int) -> Any:
    """Returns the highest price of a call: the user's, else the table's."""
    own = ledger.budget.price(str(lm.model))
    return own or lm._described.price(input_tokens, options)


def _whole(value: Any) -> int | None:
    """Returns the value if it is an integer above 0, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _is_retried(lm: dspy.BaseLM) -> bool:
    """Returns whether DSPy retries calls: not for an LM with a `forward` of its own."""
    return isinstance(lm, dspy.LM) and all(
        name not in vars(lm) and getattr(type(lm), name) is getattr(dspy.LM, name)
        for name in ("forward", "aforward")
    )


@functools.cache
def _metered_class(kind: Any) -> type:
    return type(kind.__name__, (_Clean, _Metered, kind), {"__module__": kind.__module__})
