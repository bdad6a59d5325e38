"""Repeats a recorded call of a metered LM: its attempts are booked as they were, and nothing is sent."""

from __future__ import annotations

import dataclasses
from typing import Any

from dspy import LMError

from dspy_rlm.budget.admission import CallPlan
from dspy_rlm.budget.ledger import Spent
from dspy_rlm.budget.token_bounds import Prompt
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.lms.endings import Ending
from dspy_rlm.lms.faults import is_permanent
from dspy_rlm.lms.kept_answers.recorded import RecordedAnswer
from dspy_rlm.lms.meter import Charge, Meter
from dspy_rlm.recording import NOT_RECORDED, CallLog


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
        meter.ledger.book(_plan(lm, arguments), _at_own_price(meter, arguments.model, spent))
    error = recorded.error
    if error is None:
        lm.reply_was_cut = recorded.was_cut
        reason = recorded.attempts[-1].finish_reason if recorded.attempts else ""
        lm.reply_ending = Ending(reason, is_cut=recorded.was_cut)
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
