"""The rows that were under way when an earlier process ended: the money that their own journals say was spent."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from dspy_rlm.jobs.job_journal import JobJournal
from dspy_rlm.jobs.recorded_costs import Prices, money_of_run
from dspy_rlm.jobs.row_run import clean


@dataclasses.dataclass
class Unfinished:
    """The money of rows that have not ended."""

    cost: float = 0.0
    """US dollars; calls of unknown cost count at what was reserved for them."""

    unbounded: int = 0
    """Rows with a call that has neither a cost nor a bound. They are not in the sum."""

    is_exact: bool = True
    """True if the cost of every call is known."""


def spent_by_unfinished(runs: Path, journal: JobJournal, prices: Prices) -> Unfinished:
    """Returns the money of rows that have not ended, beyond what the job's journal has of those that ended for now.

    Removes the journals of those that have: the process ended before it could.
    """
    clean(runs)
    found = Unfinished()
    for path in runs.glob("*/run.jsonl"):
        try:
            digest = bytes.fromhex(path.parent.name)
        except ValueError:
            continue
        if journal.is_closed(digest):
            shutil.rmtree(path.parent, ignore_errors=True)
        elif (counted := journal.amount_of(digest)) is not None:
            money = money_of_run(path, prices)
            found.is_exact = found.is_exact and money.is_exact
            if money.amount is None:
                found.unbounded += 1
            else:
                found.cost += max(money.amount - counted, 0.0)
    return found
