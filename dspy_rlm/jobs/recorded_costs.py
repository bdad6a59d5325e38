"""The money that the journal of a row's run says was spent: known costs, and what was reserved for the other requests."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from dspy_rlm.budget.budget import Price
from dspy_rlm.jobs.binding import lms_of
from dspy_rlm.journal import load
from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.records import AttemptRecord, CallRecord
from dspy_rlm.lms.model_facts import bounds_of
from dspy_rlm.reports.booked import booked
from dspy_rlm.reports.report import added
from dspy_rlm.rlm import RLM

Prices: TypeAlias = Callable[[str], Price | None]
"""Returns the highest price of a model, named as in `dspy.LM`; None if it is unknown."""


def prices_of(rlm: RLM) -> Prices:
    """Returns the prices of an RLM's models. DSPy's table is read for the first one that is asked for."""

    @functools.cache
    def price(model: str) -> Price | None:
        facts = [bounds_of(lm, rlm._config.budget) for lm in lms_of(rlm) if str(lm.model) == model]
        return facts[0].price if facts else rlm._config.budget.price(model)

    return price


@dataclasses.dataclass(frozen=True)
class RecordedMoney:
    """The money of a row's run."""

    amount: float | None = 0.0
    """US dollars, with bounds of what is unknown; None if a request has no bound."""

    is_exact: bool = True
    """True if the cost of every request is known."""


def money_of_run(path: Path, prices: Prices) -> RecordedMoney:
    """Returns the money of the requests in a row's journal; none without one."""
    try:
        calls = list(load(path).calls())
    except FileNotFoundError:
        return RecordedMoney()
    except (JournalError, OSError):
        return _of_unreadable(path)
    amounts = (amount for call in calls for amount in _amounts(call, prices))
    is_exact = all(call.lost is None and call.cost is not None for call in calls)
    return RecordedMoney(functools.reduce(added, amounts, 0.0), is_exact)


def spent_by_run(path: Path, prices: Prices) -> float | None:
    """Returns the US dollars of the requests in a row's journal; 0 without one, None if a request has no bound."""
    return money_of_run(path, prices).amount


def _of_unreadable(path: Path) -> RecordedMoney:
    """Returns no money for a journal whose first line was torn: its process was killed before it sent anything."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if not file.readline().endswith(b"\n"):
            return RecordedMoney()
    return RecordedMoney(None, is_exact=False)


def _amounts(call: CallRecord, prices: Prices) -> Iterator[float | None]:
    for attempt in call.attempts:
        if not attempt.cached:
            yield booked(attempt.cost, _bound(call, attempt, prices))
    if call.lost is not None:
        yield _reserved(call, call.lost, prices)


def _bound(call: CallRecord, attempt: AttemptRecord, prices: Prices) -> float | None:
    """Returns the bound of an attempt of unknown cost: by its tokens at a price that is known now, or what was reserved."""
    tokens = attempt.input_tokens, attempt.output_tokens
    if attempt.cost is None and None not in tokens and (price := prices(call.model)) is not None:
        return price.of(*(count for count in tokens if count is not None))
    return _reserved(call, attempt.reserved, prices)


def _reserved(
    call: CallRecord, reserved: tuple[float, float] | None, prices: Prices
) -> float | None:
    """Returns the US dollars that were reserved for a request. Zero says that nothing bounded it, or that it is free."""
    if reserved is not None and reserved[1] > 0:
        return reserved[1]
    price = prices(call.model)
    return 0.0 if price is not None and price.is_free else None
