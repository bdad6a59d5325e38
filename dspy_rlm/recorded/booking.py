"""Books recorded calls that are not repeated: they were paid, and count like all others."""

from __future__ import annotations

from collections.abc import Iterable

from dspy_rlm.budget.admission import CallPlan
from dspy_rlm.budget.allowance import Calls
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.budget.token_bounds import Prompt
from dspy_rlm.journal.records import CallRecord
from dspy_rlm.recorded.answers import spent_of


def book(ledger: Ledger, calls: Calls, records: Iterable[CallRecord], least: int = 0) -> None:
    """Books calls as they were.

    Args:
        ledger: The ledger of the tree.
        calls: The LM calls of the run, which those of its code count among.
        records: The calls.
        least: The calls that they count as at least: one for a sandbox.
    """
    count = 0
    for record in records:
        is_sent = any(not attempt.cached for attempt in record.attempts)
        count += is_sent and (record.is_sub_call or record.depth > 0)
        for spent in spent_of(record):
            ledger.book(CallPlan(record.model, Prompt(()), record.kind, record.depth), spent)
    calls.book_llm_calls(max(count, least))  # the limit may be lower than it was
