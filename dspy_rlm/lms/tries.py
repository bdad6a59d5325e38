"""The tries of one call of a metered LM: each is reserved, booked, and repeated if another may succeed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

import dspy
from dspy import LMError

from dspy_rlm.budget.admission import LONGEST_REPLY, Amount, CallPlan
from dspy_rlm.budget.call_queue import Reservation
from dspy_rlm.budget.ledger import Spent
from dspy_rlm.budget.token_bounds import Prompt
from dspy_rlm.errors import BudgetExceededError, JobStoppedError
from dspy_rlm.limiting.gate import Entry
from dspy_rlm.limiting.limiter import LIMITERS, USUAL_REPLY_TOKENS, Permit
from dspy_rlm.limiting.quota import LeaseRequest, Quota
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.lms.call_readings import Reading, may_be_charged
from dspy_rlm.lms.faults import (
    error_in_reply,
    is_of_concurrency,
    is_of_connection,
    is_passing,
    is_permanent,
    pauses_run,
    read_fault,
)
from dspy_rlm.lms.meter import Charge
from dspy_rlm.lms.model_facts import CHARS_A_TOKEN, facts_of
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.protocols.recording import Attempt, CallLog
from dspy_rlm.redaction import cleaned
from dspy_rlm.reports.report import Call, added
from sandbox_runtime import check_call
from sandbox_runtime.helpers import redact_secrets

# Times that a call is sent again because the server has refused it beside others. They are no retries: the server may
# allow fewer calls at once than were sent.
MAX_CROWDED_OUT = 8

# The pause before the second time, if the server does not say one; it doubles.
FIRST_CROWDED_SECONDS = 0.1

# A `Retry-After` up to this is waited for by such a call also if the LM has `num_retries=0`.
SHORT_SECONDS = 10.0

# A `Retry-After` beyond this is not waited for, whatever `num_retries` is: the call fails, and says so.
LONGEST_SECONDS = 600.0

# A reply that was cut has this share of its limit of tokens at least, or something else has cut it. Servers count a few
# tokens of their own.
LEAST_SHARE_OF_LIMIT = 0.9

# Shorter prompts fit into the window of any model that is in use, so the table of models is not read for them.
SHORT_PROMPT_CHARS = 20_000


# The setting of DSPy under which a call keeps the program's `disable_history`.
HISTORY_IS_OFF = "rlm_history_is_off"


class StaleReplyError(Exception):
    """A cache has answered with a reply that is no answer."""


class Tries:
    """The tries of one call of a metered LM."""

    def __init__(self, lm: Any, arguments: CallArguments, charge: Charge, log: CallLog) -> None:
        """Starts with none.

        Raises:
            LMError: The prompt is longer than the model's context window.
        """
        self._lm, self._meter = lm, lm._meter
        self._scope = lm._meter.scope.current
        self._arguments = arguments
        self._charge = charge
        self._log = log
        self._failed = 0
        self._crowded_out = 0
        self._cut_at = 0
        self._avoids_cache = False
        self._permit: Permit
        self._lease: LeaseRequest | None = None
        if self._meter.is_sub_call and arguments.chars > SHORT_PROMPT_CHARS:
            facts_of(lm).check(arguments.chars)
        is_metered = self._meter.ledger.budget.is_metered
        self._prompt = arguments.content() if is_metered else Prompt(())

    @contextlib.contextmanager
    def entering(self) -> Iterator[Entry]:
        """Yields a place among the run's calls of this LM, to be waited for. The call ends with the block."""
        entry = self._meter.gate.enter()
        try:
            with self._scope.on_cancel(entry.leave):
                yield entry
        finally:
            entry.leave()

    @contextlib.contextmanager
    def permitted(self) -> Iterator[Permit]:
        """Yields a place among the calls of this model by all runs of the process, to be waited for."""
        self.check()
        meter = self._meter
        permit = LIMITERS.of(self._lm).enter(
            self._arguments.chars // CHARS_A_TOKEN, first=meter.is_turn_of_root
        )
        self._permit = permit
        try:
            with self._scope.on_cancel(permit.leave):
                yield permit
        finally:
            permit.leave()

    def check(self) -> None:
        """Raises if the run or the cell has ended meanwhile."""
        self._scope.check()
        check_call()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Reservation]:
        """Yields a reservation for the next try, to be waited for."""
        place = self._meter.ledger.reserve(self._plan())
        try:
            with self._scope.on_cancel(place.leave_the_line):
                yield place
            self.check()
        except BaseException:
            place.leave()
            raise

    @contextlib.contextmanager
    def leased(self, quota: Quota, place: Reservation) -> Iterator[LeaseRequest]:
        """Yields a lease of the job for the next try, to be waited for. It is settled with the try."""
        tokens = self._arguments.chars // CHARS_A_TOKEN + USUAL_REPLY_TOKENS
        cost = self._most_expensive(place) if quota.limits_cost else None
        granted = quota.take(self._arguments.model, tokens, cost, first=self._meter.is_turn_of_root)
        self._lease = lease = LeaseRequest(quota, granted)
        try:
            with self._scope.on_cancel(lease.leave):
                yield lease
            self.check()
        except BaseException as error:
            lease.leave()
            if isinstance(error, JobStoppedError):  # so would each further call be
                self._meter.tree.cancel(error)
            raise

    def _most_expensive(self, place: Reservation) -> float | None:
        """Returns an upper bound of the cost of the next try: no tokenizer has more tokens than the text has bytes.

        None if the price is unknown.
        """
        if self._meter.ledger.budget.max_cost is not None and place.amount.cost:
            return place.amount.cost
        prompt = self._arguments.content().bytes
        price = self._price(prompt)
        replies = (place.plan.reply_tokens or LONGEST_REPLY) * place.plan.candidates
        return None if price is None else float(price.of(prompt * place.plan.candidates, replies))

    def _plan(self) -> CallPlan:
        meter, arguments, model = self._meter, self._arguments, self._lm._described
        return CallPlan(
            model=arguments.model,
            prompt=self._prompt,
            kind=meter.kind,
            depth=meter.depth,
            chars=arguments.chars,
            reply_tokens=arguments.reply_limit() or model.longest_reply,
            longest_prompt=model.longest_prompt,
            cut_at=self._cut_at,
            candidates=arguments.candidates(),
            price=self._price,
            final=meter.final,
        )

    def _price(self, input_tokens: int) -> Any:
        """Returns the highest price of the call: the user's, else the table's."""
        own = self._meter.ledger.budget.price(self._arguments.model)
        return own or self._lm._described.price(input_tokens, self._arguments.merged)

    def arguments(self, place: Reservation) -> tuple[Any, Mapping[str, Any]]:
        """Returns the LM's arguments, which limit its reply to what is reserved."""
        prompt: Any = self._arguments.prompt
        options: Mapping[str, Any] = self._arguments.options
        if place.cuts:
            prompt, options = self._arguments.limited_to(place.reply_tokens)
        return prompt, {**options, "cache": False} if self._avoids_cache else options

    @contextlib.contextmanager
    def sending(self, place: Reservation, streamed: Any) -> Iterator[Reading]:
        """Books one try. The caller passes the outputs to the reading. `streamed.emitted` tells of parts that came before."""
        meter, lm = self._meter, self._lm
        bound = self._lease.bound if self._lease is not None else 0.0
        self._log.sent(place.amount.tokens, max(place.amount.cost, bound))
        reading = Reading(dspy.settings.usage_tracker)
        began, error = time.monotonic(), ""
        # The entry of the history says what a reply costs and how it ended. Where the program wants no history, only this
        # reading gets it: see `_Metered.update_history`.
        history = {"disable_history": False, HISTORY_IS_OFF: dspy.settings.disable_history}
        try:
            with dspy.context(usage_tracker=reading, **history, **meter.context()):
                yield reading
        except BaseException as failure:
            if isinstance(failure, LMError):
                read_fault(failure)
            abandoned = type(failure) is type(self._scope.reason)
            if abandoned or streamed.emitted or may_be_charged(failure):
                reading.give_up(place.plan.candidates)
            error = redact_secrets(f"{type(failure).__name__}: {failure}", secrets_of_lm(lm))
            raise
        finally:
            cached = (not error or reading.replaces_cached) and not reading.billed
            self._charge.sent = self._charge.sent or not cached
            is_first = not error and meter.ledger.note_answered(self._arguments.digest())
            self._charge.replayed = cached and is_first
            self._settle(place, reading, time.monotonic() - began, error, cached=cached)

    def _settle(
        self, place: Reservation, reading: Reading, seconds: float, error: str, *, cached: bool
    ) -> None:
        meter, model = self._meter, self._arguments.model
        tokens = reading.tokens("prompt_tokens"), reading.tokens("completion_tokens")
        cost = reading.cost
        budget = meter.ledger.budget
        own = budget.price(model)
        limits_cost = meter.quota is not None and meter.quota.limits_cost
        if (
            budget.is_metered or limits_cost
        ) and reading.counts_nothing:  # so limits count by bytes
            tokens, cost = (None, None), None
        if own is not None and reading.billed:
            known = [count for count in tokens if count is not None]
            cost = (
                own.of(*known)
                if len(known) == len(tokens)
                else own.of(0, 0)
                if own.is_free
                else None
            )
        call = Call(
            meter.kind, model, meter.depth, self._arguments.chars, reading.chars, seconds, *tokens, cost, cached,
            error[:500],
        )  # fmt: skip
        spent = Spent(
            call,
            not error,
            reading.bytes,
            reading.discounted,
            replayed=Amount(reading.replayed_tokens(), reading.replayed_cost())
            if self._charge.replayed
            else Amount(),
        )
        # First of all: an answer that was received is paid for.
        ending = reading.ending(None)
        self._log.attempted(
            Attempt(
                spent,
                time.time() - seconds,
                None if error else reading.outputs,
                ending.finish_reason,
                ending.is_cut,
                not self._is_cut_by_budget(place, reading),
                ending.refusal,
            )
        )
        self._permit.used(tokens, sent=not cached)
        if self._lease is not None:
            total = added(*tokens)
            self._lease.settle(total, cost, sent=not cached)
        meter.ledger.settle(place, spent)
        if not error:
            meter.on_answer(self._arguments.chars, reading.prompt_tokens())
        if meter.allowance is not None:
            # As in `Ledger.left`: a replayed call counts as if it had been computed, so equal runs see equal figures.
            meter.allowance.book(spent.replayed.cost if cached else cost)

    def check_answer(self, reading: Reading) -> None:
        """Raises the error that a reply has in place of an answer.

        DSPy caches such a reply. From the cache it says nothing about the present, so the call is made without it.
        """
        for entry in reading.history:
            if not reading.chars and (error := error_in_reply(entry.get("response"))) is not None:
                error.model = self._arguments.model
                reading.replaces_cached = not reading.billed and not self._avoids_cache
                self._avoids_cache = True
                raise StaleReplyError if reading.replaces_cached else error

    def is_over(self, place: Reservation, reading: Reading, *, streamed: bool) -> bool:
        """Returns whether the reply is complete. One that was cut by the budget is requested again.

        Raises:
            BudgetExceededError: It cannot be requested again: a part of it was streamed.
        """
        self._lm.reply_ending = reading.ending(None)
        self._lm.reply_was_cut = self._lm.reply_ending.is_cut
        if not self._is_cut_by_budget(place, reading):
            return True
        self._cut_at = place.reply_tokens or 0
        if streamed:
            raise self._cut_error()
        return False

    def _is_cut_by_budget(self, place: Reservation, reading: Reading) -> bool:
        """Returns whether a higher limit would have given a longer reply.

        A server that cuts replies at a lower limit of its own would cut each further one too.
        """
        limit = place.reply_tokens
        if not place.cuts or limit is None or not reading.ending(limit).is_cut:
            return False
        count = reading.tokens("completion_tokens")
        is_cut_here = not count or count >= limit * LEAST_SHARE_OF_LIMIT
        return is_cut_here and limit < place.plan.longest_reply

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

    def pause(self, error: LMError, permit: Permit, *, streamed: bool) -> float:
        """Returns the seconds until the next try, as DSPy does. Raises the error if there is none."""
        if is_permanent(error):
            self._end_run(error)
        hint = getattr(error, "retry_after", None)
        hint = float(hint) if isinstance(hint, (int, float)) else None
        if is_of_connection(error):
            permit.unreachable()
        crowded = is_of_concurrency(error) and permit.refused(hint) and not streamed
        if hint is not None and hint > LONGEST_SECONDS:
            raise error
        waits = self._lm._tries or hint is None or hint <= SHORT_SECONDS
        if crowded and waits and self._crowded_out < MAX_CROWDED_OUT:
            self._crowded_out += 1
            # At once, as soon as there is room beside fewer calls; then later and later: it may be a limit per minute.
            later = (
                FIRST_CROWDED_SECONDS * 2 ** (self._crowded_out - 2)
                if self._crowded_out > 1
                else 0.0
            )
            return self._announced(error, later if hint is None else hint)
        if streamed or self._failed >= self._lm._tries or not is_passing(error):
            if pauses_run(error):
                self._end_run(error)
            raise error
        self._failed += 1
        return self._announced(
            error, float(2 ** min(self._failed - 1, 6)) if hint is None else hint
        )

    def _end_run(self, error: LMError) -> None:
        """Ends the run for an error that each further sub-call would meet too, whatever the code makes of it."""
        if self._meter.charged:
            self._meter.tree.cancel(cast("Exception", cleaned(error, secrets_of_lm(self._lm))))

    def _announced(self, error: LMError, seconds: float) -> float:
        """Returns the seconds until the next try, which an observer is told of."""
        text = f"{type(error).__name__}: {error}"
        self._meter.on_retry(redact_secrets(text, secrets_of_lm(self._lm)), seconds)
        return seconds
