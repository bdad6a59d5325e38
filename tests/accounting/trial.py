"""One trial: a run under random faults, limits and cancellation, resumed if it has no outputs; then the figures."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm import RLM, RunFailedError
from dspy_rlm.journal import RunRecord, load
from dspy_rlm.journal.records import AttemptRecord
from dspy_rlm.reports.report import RunReport
from dspy_rlm.testing import Exchange

from .server import CELLS, PRICES, Books, Odds, cost_of, tokens_of

# The time for requests that the run has abandoned to end on the server.
SETTLE_SECONDS = 5.0


@dataclasses.dataclass
class Trial:
    """The outcome of one trial."""

    setup: str
    requests: int = 0
    failed_requests: int = 0
    abandoned: int = 0
    """Requests that the run did not wait for: they may have reached the server, or not."""

    ended_by: str = ""
    resumes: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)


def trial(number: int, seed: int, pool: Any) -> Trial:
    """Runs one trial. Equal numbers and seeds draw the same setup; the order of requests differs."""
    dice = random.Random(f"{seed} {number}")
    shares = {"wide": dice.choice([2, 12, 30]), "few": dice.choice([1, 3])}
    cells = [
        dice.choice(CELLS).format(n=f"{number}.{at}", **shares) for at in range(dice.randint(1, 4))
    ]
    odds = dice.choice(
        [
            Odds(),
            Odds(status=0.15),
            Odds(status=0.1, lost=0.06, malformed=0.03),
            Odds(fatal_after=dice.randint(0, 4), status=0.05),
        ]
    )
    limits: dict[str, Any] = dice.choice(
        [
            {},
            {"max_llm_calls": dice.choice([5, 20, 60])},
            {"max_tokens": dice.randint(8_000, 80_000)},
            {"max_cost": dice.uniform(0.05, 0.6)},
            {"max_seconds": dice.uniform(1.0, 3.0)},
        ]
    )
    retries, cached = dice.choice([0, 1, 2]), dice.random() < 0.2
    cancel = dice.choice([1, 2, 5, 15, 30]) if dice.random() < 0.25 else None
    resumes = "max_seconds" not in limits
    setup = f"{odds} {limits} retries={retries} cache={cached} cancel={cancel} cells={cells}"
    done = Trial(setup)
    books = Books(random.Random(f"{seed} {number} server"), odds, cells)
    with tempfile.TemporaryDirectory(prefix="accounting-") as folder, books.server:
        lms = {
            name: books.server.lm(name, num_retries=retries, cache=cached)
            for name in ("root", "sub")
        }
        rlm = RLM(
            "question -> answer", sub_lm=lms["sub"], journal=Path(folder) / "run.jsonl", pool=pool,
            prices=PRICES, **{"max_llm_calls": 200, "max_iterations": 8, **limits},
        )  # fmt: skip
        with dspy.context(lm=lms["root"], adapter=dspy.ChatAdapter()):
            report = _run(
                rlm, books, done, cancel, is_async=cancel is not None or dice.random() < 0.3
            )
            if report.status == "failed" and report.journal and resumes:
                books.faults_end = True
                done.resumes += 1
                report = _resume(rlm, report.journal, done)
        exchanges = _settled(books)
        _check(exchanges, report, {"max_llm_calls": 200, **limits}, done)
    return done


def _run(rlm: RLM, books: Books, done: Trial, cancel: int | None, *, is_async: bool) -> RunReport:
    """Runs the RLM, and returns its report, however it ends."""
    try:
        report = asyncio.run(_cancelled(rlm, books, cancel)) if is_async else rlm(question="?").run
    except RunFailedError as failed:
        report = failed.run
    done.ended_by = f"{report.status} {report.stopped_by}"
    return report


async def _cancelled(rlm: RLM, books: Books, after: int | None) -> RunReport:
    """Runs the RLM, and cancels it after so many requests."""

    async def work() -> RunReport:
        try:
            report: RunReport = (await rlm.acall(question="?")).run
        except asyncio.CancelledError as error:
            report = error.run  # type: ignore[attr-defined]
        return report

    task = asyncio.create_task(work())
    while not task.done() and (after is None or len(books.server.requests) < after):
        await asyncio.sleep(0.005)
    task.cancel()
    return await task


def _resume(rlm: RLM, journal: str, done: Trial) -> RunReport:
    try:
        report: RunReport = rlm.resume(journal).run
    except RunFailedError as failed:
        done.ended_by += f", resumed: failed {failed.run.stopped_by}"
        return failed.run
    done.ended_by += f", resumed: {report.status}"
    return report


def _settled(books: Books) -> list[Exchange]:
    """Returns the exchanges, once no more arrive."""
    deadline, before = time.monotonic() + SETTLE_SECONDS, -1
    while len(books.server.requests) != before and time.monotonic() < deadline:
        before = len(books.server.requests)
        time.sleep(0.1)
    return books.server.requests


# ---- The figures ----


def _check(
    exchanges: list[Exchange], report: RunReport, limits: dict[str, Any], done: Trial
) -> None:
    """Compares the server's log, the journal and the report."""
    done.requests = len(exchanges)
    done.failed_requests = sum(not _is_whole(exchange) for exchange in exchanges)
    attempts: list[tuple[str, AttemptRecord]] = []
    lost = 0
    if report.journal is not None:
        record: RunRecord = load(report.journal)
        attempts = [
            (call.model.removeprefix("openai/"), attempt)
            for call in record.calls()
            for attempt in call.attempts
            if not attempt.cached
        ]
        lost = sum(call.lost is not None for call in record.calls())
        if record.notes:
            done.problems.append(f"the journal has notes: {record.notes}")
    # In a report those of the first process are `under_way`; in one of a resumed run they are calls with an error.
    lost = max(lost, len(report.under_way))
    done.abandoned = lost + sum(_was_abandoned(one) for _, one in attempts)
    _check_requests(exchanges, attempts, report, done, lost)
    _check_tokens(exchanges, attempts, report, done, lost)
    _check_cost(exchanges, attempts, report, done, lost)
    _check_limits(exchanges, report, limits, done)


def _is_whole(exchange: Exchange) -> bool:
    """Returns whether the client has got a whole answer, if it waited for it."""
    return exchange.status == 200 and exchange.error is None


def _was_abandoned(attempt: AttemptRecord) -> bool:
    """Returns whether the run did not wait for a request. It may have reached the server, or not."""
    kind = attempt.error.partition(":")[0]
    # The sub-calls in flight end with the error of the root LM that can never answer.
    return kind in _ABANDONED or (kind == "LMAuthError" and attempt.input_tokens is None)


_ABANDONED = ("RunEndedError", "CancelledError", "BudgetExceededError", "KeyboardInterrupt")


def _check_requests(
    exchanges: list[Exchange], attempts: list[Any], report: RunReport, done: Trial, lost: int
) -> None:
    calls = sum(usage.calls for usage in report.usage)
    # The report of a run that was cancelled is made at once: its threads may still send a request before they end.
    late = len(attempts) + lost - calls
    if late < 0 or (late > 0 and not (done.resumes == 0 and "CancelledError" in done.ended_by)):
        done.problems.append(
            f"{calls} calls in the report, {len(attempts)} in the journal, and {lost} without an end"
        )
    if not 0 <= calls + max(late, 0) - len(exchanges) <= done.abandoned:
        done.problems.append(
            f"{calls} calls in the report, {len(exchanges)} on the server, {done.abandoned} abandoned"
        )
    failed = sum(bool(one.error) and not _was_abandoned(one) for _, one in attempts)
    if not 0 <= done.failed_requests - failed <= done.abandoned:
        done.problems.append(
            f"{failed} failed attempts in the journal, {done.failed_requests} failed on the server"
        )


def _check_tokens(
    exchanges: list[Exchange], attempts: list[Any], report: RunReport, done: Trial, lost: int
) -> None:
    """Checks that each answer has the server's tokens, and the report their sum."""
    answered = Counter((one.model, *tokens_of(one)) for one in exchanges if one.reply is not None)
    known: Counter[Any] = Counter(
        (model, one.input_tokens, one.output_tokens)
        for model, one in attempts
        if one.input_tokens is not None and (one.input_tokens or one.output_tokens)
    )
    unknown = sum(one.input_tokens is None for _, one in attempts) + lost
    if extra := known - answered:
        done.problems.append(f"tokens of no request: {list(extra)[:5]}")
    left = answered - known
    if left.total() > unknown:
        done.problems.append(f"{left.total()} answers are not booked: {list(left)[:5]}")
    for name, at in (("input_tokens", 1), ("output_tokens", 2)):
        totals = [getattr(usage, name) for usage in report.usage]
        expected = None if unknown else sum(key[at] * n for key, n in answered.items())
        total = None if None in totals else sum(totals)
        if total != expected:
            done.problems.append(f"{name}: {total} in the report, {expected} on the server")


def _check_cost(
    exchanges: list[Exchange], attempts: list[Any], report: RunReport, done: Trial, lost: int
) -> None:
    dollars = sum(map(cost_of, exchanges))
    unknown = any(one.cost is None for _, one in attempts) or lost > 0
    if unknown != (report.cost is None):
        done.problems.append(
            f"the cost is {report.cost}, and that of a request is unknown: {unknown}"
        )
    elif report.cost is not None and not math.isclose(report.cost, dollars, abs_tol=1e-12):
        done.problems.append(f"${report.cost} in the report, ${dollars} on the server")
    most = report.cost_at_most
    if most is not None and dollars > most * (1 + 1e-9) + 1e-12:
        done.problems.append(f"at most ${most} in the report, ${dollars} on the server")


def _check_limits(
    exchanges: list[Exchange], report: RunReport, limits: dict[str, Any], done: Trial
) -> None:
    tokens = sum(sum(tokens_of(exchange)) for exchange in exchanges)
    dollars = sum(map(cost_of, exchanges))
    if tokens > limits.get("max_tokens", math.inf):
        done.problems.append(f"{tokens} tokens, more than {limits['max_tokens']}")
    if dollars > limits.get("max_cost", math.inf) * (1 + 1e-9):
        done.problems.append(f"${dollars}, more than {limits['max_cost']}")
    if report.llm_calls > limits["max_llm_calls"]:
        done.problems.append(f"{report.llm_calls} calls, more than {limits['max_llm_calls']}")
