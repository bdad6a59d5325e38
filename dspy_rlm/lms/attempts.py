"""The attempts of one call of a metered LM, without I/O: a generator that yields steps and is sent their results.

A failed attempt is repeated as DSPy does; so is one whose reply was cut by the budget. `drive` and `adrive` have
the steps performed, so that `__call__` and `acall` share one loop, as in `runs/loop.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, TypeAlias

from dspy import LMError

from dspy_rlm.budget.admission import CallPlan
from dspy_rlm.budget.call_queue import Reservation
from dspy_rlm.budget.ledger import Spent
from dspy_rlm.budget.token_bounds import Prompt
from dspy_rlm.dspy_internals.lm_calls import adapter_fallback_scope
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.limiting.gate import Entry
from dspy_rlm.limiting.limiter import Permit
from dspy_rlm.limiting.quota import LeaseRequest
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.lms.endings import Ending
from dspy_rlm.lms.faults import is_permanent
from dspy_rlm.lms.kept_answers.store import AnswerStore
from dspy_rlm.lms.meter import Charge, Meter
from dspy_rlm.lms.tries import StaleReplyError, Tries
from dspy_rlm.protocols.recording import NOT_RECORDED, CallLog, RecordedAnswer


@dataclasses.dataclass(frozen=True)
class Wait:
    """Wait until the call may be sent, or its place in the queue is left."""

    place: Reservation | Entry | Permit | LeaseRequest


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
    meter, arguments = lm._meter, CallArguments(lm, prompt, options)
    with meter.charging() as charge:
        recorded = meter.answers and meter.answers.answer(meter.kind, arguments)
        if recorded is not None:
            lm.reply = repeat(lm, arguments, charge, recorded)
            return lm.reply
        keys: list[tuple[AnswerStore, bytes]] = []
        for store in meter.stores:
            key = store.key(meter.kind, arguments)
            if key is None:
                continue
            recorded = store.answer(key, meter.kind, meter.depth, arguments)
            if recorded is not None:
                lm.reply = repeat(lm, arguments, charge, recorded)
                return lm.reply
            keys.append((store, key))
        with meter.recorder.calling(meter.kind, meter.depth, arguments) as log:
            reply = yield from _sent(lm, Tries(lm, arguments, charge, log))
        for store, key in keys:
            store.keep(key, lm)
        return reply


def _sent(lm: Any, tries: Tries) -> Generator[Step, Any, Any]:
    """Yields the steps of a call that is not recorded, and returns the reply."""
    while True:
        with contextlib.ExitStack() as places:
            yield Wait(places.enter_context(tries.entering()))
            permit = places.enter_context(tries.permitted())
            yield Wait(permit)
            tries.check()
            while (seconds := permit.seconds_held_back()) > 0:
                yield Pause(seconds)
            try:
                with tries.admitted() as place:
                    yield Wait(place)
                    if lm._meter.quota is not None:
                        with tries.leased(lm._meter.quota, place) as lease:
                            yield Wait(lease)
                    send = Send(*tries.arguments(place))
            except BudgetExceededError as error:
                raise tries.refused(error) from error.__cause__
            with adapter_fallback_scope() as streamed:
                try:
                    with tries.sending(place, streamed) as reading:
                        reading.under_way = True
                        reply = reading.take((yield send))
                        tries.check_answer(reading)
                except StaleReplyError:
                    continue
                except LMError as error:
                    seconds = tries.pause(error, permit, streamed=streamed.emitted)
                else:
                    permit.answered()
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


# ---- Recorded calls ----


def repeat(lm: Any, arguments: CallArguments, charge: Charge, recorded: RecordedAnswer) -> Any:
    """Books a recorded call, and returns its reply. Raises its error."""
    meter: Meter = lm._meter
    recorder = NOT_RECORDED if recorded.is_logged else meter.recorder
    with recorder.calling(meter.kind, meter.depth, arguments) as log:
        return _repeat(lm, arguments, charge, recorded, log)


def _repeat(
    lm: Any, arguments: CallArguments, charge: Charge, recorded: RecordedAnswer, log: CallLog
) -> Any:
    meter: Meter = lm._meter
    for attempt in recorded.attempts:
        spent = attempt.spent
        log.attempted(attempt)
        charge.sent = charge.sent or not spent.call.cached
        if spent.answered:
            is_first = meter.ledger.note_answered(arguments.digest())
            charge.replayed = spent.call.cached and is_first
        spent = _at_own_price(meter, arguments.model, spent)
        meter.ledger.book(_plan(lm, arguments), spent)
        if spent.answered:
            meter.on_answer(arguments.chars, spent.call.input_tokens or None)
        if meter.allowance is not None:
            meter.allowance.book(spent.replayed.cost if spent.call.cached else spent.call.cost)
    error = recorded.error
    if error is None:
        last = recorded.attempts[-1]
        lm.reply_ending = Ending(last.finish_reason, last.refusal, last.was_cut)
        lm.reply_was_cut = last.was_cut
        return recorded.reply
    if isinstance(error, LMError) and is_permanent(error) and meter.charged:
        meter.tree.cancel(error)
    raise error


def _plan(lm: Any, arguments: CallArguments) -> CallPlan:
    """Returns the plan of the call, from which the bounds of later ones are learned."""
    meter: Meter = lm._meter
    budget = meter.ledger.budget
    return CallPlan(
        model=arguments.model,
        prompt=arguments.content() if budget.is_metered else Prompt(()),
        kind=meter.kind,
        depth=meter.depth,
        chars=arguments.chars,
        reply_tokens=arguments.reply_limit() or lm._described.longest_reply,
        longest_prompt=lm._described.longest_prompt,
        candidates=arguments.candidates(),
        price=lambda tokens: (
            budget.price(arguments.model) or lm._described.price(tokens, arguments.merged)
        ),
        final=meter.final,
    )


def _at_own_price(meter: Meter, model: str, spent: Spent) -> Spent:
    """Returns what a call took, at the user's price for its model, if there is one."""
    call, own = spent.call, meter.ledger.budget.price(model)
    if own is None or call.cached or call.input_tokens is None or call.output_tokens is None:
        return spent
    cost = own.of(call.input_tokens, call.output_tokens)
    return dataclasses.replace(spent, call=dataclasses.replace(call, cost=cost))
