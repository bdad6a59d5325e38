"""Recorded LM calls, as the answers and the amounts that a run books."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from dspy_rlm.budget.admission import Amount
from dspy_rlm.budget.ledger import Spent
from dspy_rlm.journal.records import AttemptRecord, CallRecord, read_text
from dspy_rlm.protocols.recording import Attempt, RecordedAnswer
from dspy_rlm.recorded.exceptions import rebuilt
from dspy_rlm.reports.report import Call

# The error of an attempt whose reply, if any, was lost with the process.
LOST = "Not answered yet when the process ended."


def answer_of(call: CallRecord, *, is_logged: bool = False) -> RecordedAnswer:
    """Returns the answer of a call that has ended, with a reply or an error. `is_logged`: see `RecordedAnswer`."""
    error = None if call.answered or call.error is None else rebuilt(call.error)
    last = len(call.attempts) - 1
    attempts = tuple(
        Attempt(
            _spent(call, attempt),
            attempt.started_at,
            call.reply if at == last and call.answered else None,
            call.finish_reason if at == last else "",
            attempt.was_cut,
            attempt.is_final,
            read_text(attempt.refusal),
        )
        for at, attempt in enumerate(call.attempts)
    )
    return RecordedAnswer(attempts, error, is_logged)


def spent_of(call: CallRecord) -> Iterable[Spent]:
    """Yields what each request of a call took. One that has no end counts with what was reserved for it."""
    for attempt in call.attempts:
        yield _spent(call, attempt)
    if call.lost is not None:
        lost = Call(call.kind, call.model, call.depth, error=LOST)
        yield Spent(lost, answered=False, reserved=Amount(*call.lost))


def _spent(call: CallRecord, attempt: AttemptRecord) -> Spent:
    booked = Call(
        call.kind,
        call.model,
        call.depth,
        attempt.chars_in,
        attempt.chars_out,
        attempt.seconds,
        attempt.input_tokens,
        attempt.output_tokens,
        attempt.cost,
        attempt.cached,
        attempt.error,
    )
    replayed = Amount() if attempt.replayed is None else Amount(*attempt.replayed)
    reserved = None if attempt.reserved is None else Amount(*attempt.reserved)
    return Spent(
        booked, not attempt.error, attempt.reply_bytes, attempt.discounted, reserved, replayed
    )


@dataclasses.dataclass(frozen=True)
class Edit:
    """A change of one step, from which a run goes another way."""

    code: str | None = None
    """The code to run instead of the recorded one."""

    output: str | None = None
    """The observation instead of that of the cell, which is run all the same."""

    reasoning: str | None = None
