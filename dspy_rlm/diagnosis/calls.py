"""Calls of LMs that were repeated, cut, malformed, failed or slow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from dspy_rlm.diagnosis.findings import Finding, Found, seconds_of
from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import CallRecord, RunRecord
from dspy_rlm.reports.text import count

# A sub-call is slow if it takes so many times the median of its run, and so many seconds.
SLOW_FACTOR, SLOW_SECONDS = 5.0, 5.0

# The section of a typed call that asks again because a reply did not fit: `repl.typed_call` writes it.
PROBLEM = "[[ ## problem_with_last_reply ## ]]"

# Typed sub-calls.
_TYPED = "predict"


def repeated_prompts(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields sub-calls with the prompt of an earlier one in the same run."""
    one = Found()
    for run in runs:
        seen: set[str] = set()
        for call in run.calls():
            if call.is_sub_call and call.digest in seen and not _asks_again(call):
                one.add(run, _place(call), [call])
            seen.add(call.digest)
    if one.places:
        yield one.costly_finding(
            "repeated_prompts",
            f"{count(one.number, 'sub-call')} had the prompt of an earlier one in the same run",
            "Keep answers in a variable, or set memo= so that equal prompts are paid once.",
            hint="Say to keep the answers of sub-calls in a variable, and not to ask the same again.",
        )


def cut_replies(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields replies that ended at their limit of tokens, by model, with the share of its calls."""
    for model, one, total in _by_model(runs, lambda call: call.was_cut):
        yield one.costly_finding(
            "cut_replies",
            f"{one.number} of {count(total, 'call')} of {model} had a reply that ended at the limit of tokens",
            "Raise max_tokens of this LM, or ask for less in one prompt.",
            cause=model,
            hint="Say to ask a sub-LM for short answers, on smaller parts of the text.",
        )


def malformed_replies(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields typed sub-calls that were asked again, though the reply was whole: it did not fit the types.

    A reply that was cut does not fit either; its cause is the limit, so it is counted there only.
    """
    for model, one, total in _by_model(runs, lambda call: False, _malformed):
        yield one.costly_finding(
            "malformed_replies",
            f"{one.number} of {count(total, 'call')} of {model} had a reply that did not fit the types, and were repeated",
            "A stronger sub-LM or simpler types help; a higher limit of tokens does not: these replies were whole.",
            cause=model,
            hint="Say to use plain types in typed sub-calls, and to describe each field.",
        )


def failed_calls(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields calls that ended with an error, by its class."""
    found: dict[str, Found] = {}
    for run in runs:
        for call in run.calls():
            if call.error is not None:
                found.setdefault(call.error.type, Found()).add(run, _place(call), [call])
    for error, one in found.items():
        yield one.costly_finding(
            "failed_calls",
            f"{count(one.number, 'LM call')} failed with {error}",
            "docs/faults.md says what each error of a server means.",
            cause=error,
            hint="Say to split texts that are too long for one prompt."
            if error == "ContextWindowExceededError"
            else "",
        )


def slow_calls(runs: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yields sub-calls that took far longer than the others of their run, by model."""
    usual: dict[str, float] = {}
    for root in runs:
        for run in root.walk():
            if times := [seconds_of(call) for step in run.all_steps for call in step.sub_calls]:
                usual[run.run_id] = median(times)

    def is_slow(call: CallRecord) -> bool:
        limit = max(SLOW_SECONDS, SLOW_FACTOR * usual.get(call.run_id, 0.0))
        return call.is_sub_call and seconds_of(call) > limit

    for model, one, _ in _by_model(runs, is_slow):
        found = one.finding(
            "slow_calls",
            f"{count(one.number, 'sub-call')} of {model} took far longer than the others of the run",
            "A batch waits for its slowest call: look at their prompts, or at the limits of the server.",
            cause=model,
        )
        yield dataclasses.replace(found, seconds=one.seconds)


def _by_model(
    runs: Sequence[RunRecord],
    chosen: Callable[[CallRecord], bool],
    also: Callable[[RunRecord], set[str]] = lambda run: set(),
) -> Iterator[tuple[str, Found, int]]:
    """Yields model, places and all calls of the model, for the calls that are chosen."""
    found: dict[str, Found] = {}
    totals: dict[str, int] = {}
    for run in runs:
        more = also(run)
        for call in run.calls():
            totals[call.model] = totals.get(call.model, 0) + 1
            if chosen(call) or call.call_id in more:
                found.setdefault(call.model, Found()).add(run, _place(call), [call])
    return ((model, one, totals[model]) for model, one in found.items())


def _malformed(run: RunRecord) -> set[str]:
    """Returns the ids of the calls that ask again although the reply before was whole.

    A journal has the calls, not the readings of their replies. A prompt that asks again says that it does; of the calls of one
    function of the REPL, as many follow a reply that was cut as there are such replies.
    """
    found: set[str] = set()
    by_parent: dict[str, list[CallRecord]] = {}
    for call in run.calls():
        if call.is_sub_call and call.kind.startswith(_TYPED):
            by_parent.setdefault(str(call.parent_call), []).append(call)
    for calls in by_parent.values():
        again = [call.call_id for call in calls if _asks_again(call)]
        found |= set(again[sum(call.was_cut for call in calls) :])
    return found


def _asks_again(call: CallRecord) -> bool:
    if not call.kind.startswith(_TYPED):
        return False
    try:
        return PROBLEM in call.prompt.text()
    except MissingValueError:
        return False


def _place(call: CallRecord) -> str:
    return f"{call.run_id}, step {call.iteration}" if call.iteration is not None else call.run_id
