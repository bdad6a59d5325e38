"""The attempts of one call of a metered LM, without I/O: a generator that yields steps and is sent their results.

A failed attempt is repeated as DSPy does; so is one whose reply was cut by the budget. `drive` and `adrive` have
the steps performed, so that `__call__` and `acall` share one loop, as in `runs/loop.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from typing import Any, TypeAlias, cast

import dspy
from dspy import LMError, is_retryable_lm_error

from dspy_rlm.budget.admission import Amount, CallPlan
from dspy_rlm.budget.call_queue import Reservation
from dspy_rlm.budget.ledger import Ledger, Spent
from dspy_rlm.budget.token_bounds import Prompt, prompt_of
from dspy_rlm.dspy_internals.lm_calls import adapter_fallback_scope
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.lms.call_readings import Reading, characters, may_be_charged
from dspy_rlm.lms.faults import error_in_reply, is_of_concurrency, is_permanent, read_fault
from dspy_rlm.lms.gate import Entry
from dspy_rlm.lms.meter import Charge
from dspy_rlm.lms.model_facts import facts_of
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.lms.valid_text import valid_arguments
from dspy_rlm.redaction import cleaned
from dspy_rlm.report import Call
from sandbox_runtime import check_call
from sandbox_runtime.helpers import redact_secrets

# The options that limit the length of a reply; which one applies depends on the LM.
_REPLY_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

# Times that a call is sent again because the server has refused it beside others. They are no retries: the server may
# allow fewer calls at once than were sent.
MAX_CROWDED_OUT = 8

# A `Retry-After` up to this is waited for by such a call also if the LM has `num_retries=0`.
SHORT_SECONDS = 10.0

# Shorter prompts fit into the window of any model that is in use, so the table of models is not read for them.
SHORT_PROMPT_CHARS = 20_000

# Options for several candidate replies, each of which is charged.
_CANDIDATES = ("n", "num_generations", "best_of")


@dataclasses.dataclass(frozen=True)
class Wait:
    """Wait until the call may be sent, or its place in the queue is left."""

    place: Reservation | Entry


@dataclasses.dataclass(frozen=True)
class Send:
    """Send the call. The result is the LM's reply."""

    prompt: Any
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Pause:
    """Wait before the next try."""

    seconds: float


Step: TypeAlias = Wait | Send | Pause


def attempts(lm: Any, prompt: Any, options: Mapping[str, Any]) -> Generator[Step, Any, Any]:
    """Yields the steps of one call of a metered LM, and returns the reply.

    Settings of DSPy that a step needs are in effect while the generator is suspended at it.
    """
    with lm._meter.charging() as charge:
        tries = _Tries(lm, prompt, options, charge)
        while True:
            with tries.entering() as entry:
                yield Wait(entry)
                tries.check()
                while (seconds := entry.seconds_held_back()) > 0:
                    yield Pause(seconds)
                try:
                    with tries.admitted() as place:
                        yield Wait(place)
                        send = Send(*tries.arguments(place))
                except BudgetExceededError as error:
                    raise tries.refused(error) from error.__cause__
                with adapter_fallback_scope() as streamed:
                    try:
                        with tries.sending(place) as reading:
                            reading.under_way = True
                            reply = reading.take((yield send))
                            tries.check_answer(reading)
                    except LMError as error:
                        seconds = tries.pause(error, entry, streamed=streamed.emitted)
                    else:
                        entry.answered()
                        lm.reply = reply
                        if tries.is_over(place, reading, streamed=streamed.emitted):
                            return reply
                        continue
            yield Pause(seconds)


def drive(steps: Generator[Step, Any, Any], perform: Callable[[Step], Any]) -> Any:
    """Performs the steps in order, in this thread; returns the reply."""
    try:
        step = next(steps)
        while True:
            try:
                result = perform(step)
            except BaseException as error:  # noqa: BLE001 - raised again at the step
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        return end.value


async def adrive(
    steps: Generator[Step, Any, Any], perform: Callable[[Step], Awaitable[Any]]
) -> Any:
    """Like `drive`, on an event loop."""
    try:
        step = next(steps)
        while True:
            try:
                result = await perform(step)
            except BaseException as error:  # noqa: BLE001 - raised again at the step
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        return end.value


class _Tries:
    """The tries of one call of a metered LM."""

    def __init__(self, lm: Any, prompt: Any, options: Mapping[str, Any], charge: Charge) -> None:
        self._lm, self._meter = lm, lm._meter
        prompt, options = valid_arguments(prompt, options)
        self._prompt, self._options = prompt, options
        self._charge = charge
        self._failed = 0
        self._crowded_out = 0
        self._cut_at = 0
        arguments = {**getattr(lm, "kwargs", {}), **options}
        self._arguments = arguments
        self._chars = characters(prompt) + characters(arguments.get("messages"))
        self._chars += characters(arguments.get("request"))
        metered = self._meter.ledger.budget.is_metered
        if self._meter.is_sub_call and self._chars > SHORT_PROMPT_CHARS:
            facts_of(lm).check(self._chars)
        self._parts = prompt_of(prompt, arguments) if metered else Prompt(())

    @contextlib.contextmanager
    def entering(self) -> Iterator[Entry]:
        """Yields a place among the calls of this LM, to be waited for. The call ends with the block."""
        entry = self._meter.gate.enter()
        try:
            with self._meter.scope.on_cancel(entry.leave):
                yield entry
        finally:
            entry.leave()

    def check(self) -> None:
        """Raises if the run or the cell has ended meanwhile."""
        self._meter.scope.check()
        check_call()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Reservation]:
        """Yields a reservation for the next try, to be waited for."""
        place = self._meter.ledger.reserve(self._plan())
        try:
            with self._meter.scope.on_cancel(place.leave_the_line):
                yield place
            self.check()
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
            if isinstance(failure, LMError):
                read_fault(failure)
            abandoned = type(failure) is type(meter.scope.reason)
            if abandoned or may_be_charged(failure):
                reading.give_up()
            error = redact_secrets(f"{type(failure).__name__}: {failure}", secrets_of_lm(lm))
            raise
        finally:
            cached = not error and not reading.billed
            self._charge.sent = self._charge.sent or not cached
            is_first = not error and meter.ledger.note_answered(self._digest())
            self._charge.replayed = cached and is_first
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
        spent = Spent(
            call,
            not error,
            reading.bytes,
            reading.discounted,
            Amount(reading.replayed_tokens(), reading.replayed_cost())
            if self._charge.replayed
            else Amount(),
        )
        meter.ledger.settle(place, spent)

    def check_answer(self, reading: Reading) -> None:
        """Raises the error that a reply has in place of an answer."""
        for entry in reading.history:
            if not reading.chars and (error := error_in_reply(entry.get("response"))) is not None:
                error.model = str(self._lm.model)
                raise error

    def _digest(self) -> bytes:
        """Returns a digest of the call, as it was before the budget limited its reply."""
        settings = getattr(self._lm, "kwargs", {})
        call = repr((self._lm.model, settings, self._prompt, self._options))
        return hashlib.sha256(call.encode("utf-8", "surrogatepass")).digest()

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

    def pause(self, error: LMError, entry: Entry, *, streamed: bool) -> float:
        """Returns the seconds until the next try, as DSPy does. Raises the error if there is none."""
        if is_permanent(error) and self._meter.charged:
            self._meter.tree.cancel(cast("Exception", cleaned(error, secrets_of_lm(self._lm))))
        hint = getattr(error, "retry_after", None)
        hint = float(hint) if isinstance(hint, (int, float)) else None
        crowded = is_of_concurrency(error) and entry.refused(hint) and not streamed
        waits = self._lm._tries or hint is None or hint <= SHORT_SECONDS
        if crowded and waits and self._crowded_out < MAX_CROWDED_OUT:
            self._crowded_out += 1
            return hint or 0.0
        if streamed or self._failed >= self._lm._tries or not _is_passing(error):
            raise error
        self._failed += 1
        return float(2 ** min(self._failed - 1, 6)) if hint is None else hint


def _is_passing(error: LMError) -> bool:
    """Returns whether another try may succeed."""
    return is_retryable_lm_error(error) and not is_permanent(error)


def _price(ledger: Ledger, lm: Any, options: Mapping[str, Any], input_tokens: int) -> Any:
    """Returns the highest price of a call: the user's, else the table's."""
    own = ledger.budget.price(str(lm.model))
    return own or lm._described.price(input_tokens, options)


def _whole(value: Any) -> int | None:
    """Returns the value if it is an integer above 0, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
