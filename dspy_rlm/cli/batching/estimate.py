"""`dspy-rlm batch --dry-run`: the rows, the expected bill with its basis, and the time.

The basis is rows that have run, those of `--sample` or of an earlier call. Without any, there is only an upper bound: that of the first
row, as `ask --dry-run` computes it, times the rows.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any

from dspy_rlm.budget.bill import worst_case
from dspy_rlm.budget.token_bounds import prompt_of
from dspy_rlm.cli.asking.dry_run import SendsNothing, first_request
from dspy_rlm.errors import RLMError
from dspy_rlm.jobs.binding import lms_of
from dspy_rlm.jobs.job_journal import JobJournal
from dspy_rlm.jobs.object_folder import local_folder
from dspy_rlm.jobs.results.progress import time_text
from dspy_rlm.jobs.rows import count_of, rows_of
from dspy_rlm.limiting.quota import Rate
from dspy_rlm.lms.model_facts import bounds_of
from dspy_rlm.reports.text import dollars
from dspy_rlm.rlm import RLM

# The normal distribution's quantile for 95 % on both sides.
_Z95 = 1.96

# So many rows are a basis for the mean of all.
_FEW = 5


@dataclasses.dataclass(frozen=True)
class JobEstimate:
    """The expected cost and time of a job. None: not known."""

    rows: int | None
    done: int
    """Rows that have ended in the folder of the job."""

    concurrency: int
    sampled: int = 0
    """Rows that the expectation is based on."""

    row_cost: float | None = None
    """The mean of them."""

    row_margin: float | None = None
    """Half of the 95 % interval of that mean."""

    row_seconds: float | None = None
    row_at_most: float | None = None
    """The upper bound of the first row."""

    bounded_by: str = ""
    max_cost: float | None = None
    least_seconds: float | None = None
    """The time that the rates alone take, if every row makes one request."""

    @property
    def left(self) -> int | None:
        """The rows that have not ended."""
        return None if self.rows is None else max(self.rows - self.done, 0)

    @property
    def cost(self) -> float | None:
        """The expected US dollars of the rows that are left."""
        return None if self.left is None or self.row_cost is None else self.left * self.row_cost

    @property
    def cost_at_most(self) -> float | None:
        """The upper bound of the US dollars of the rows that are left."""
        bounds = [] if self.max_cost is None else [self.max_cost]
        if self.left is not None and self.row_at_most is not None:
            bounds.append(self.left * self.row_at_most)
        return min(bounds, default=None)

    @property
    def seconds(self) -> float | None:
        """The expected time of the rows that are left."""
        if self.left is None or self.row_seconds is None:
            return None
        at_once = max(min(self.concurrency, self.left), 1)
        return max(self.left * self.row_seconds / at_once, self.least_seconds or 0.0)

    def dump(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        names = ("left", "cost", "cost_at_most", "seconds")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in names}

    def text(self) -> str:
        """Returns it in a few lines."""
        lines = [
            f"rows: {'unknown' if self.rows is None else f'{self.rows:,}'}, {self.done:,} done"
        ]
        if self.cost is not None and self.left is not None:
            margin = (self.row_margin or 0.0) * self.left
            lines.append(
                f"cost: about {dollars(self.cost)} ± {dollars(margin)}, from {self.sampled:,} rows that have run"
            )
            if self.sampled < _FEW:
                lines.append("      few rows: --sample 20 would say it better")
        else:
            lines.append(
                "cost: unknown before some rows have run: --dry-run --sample 5 runs five of them"
            )
        most = self.cost_at_most
        by = "--max-cost" if most is not None and most == self.max_cost else self.bounded_by
        lines.append(
            f"at most: {dollars(most)} (by {by})"
            if most is not None
            else "at most: nothing bounds it; --max-cost does, or --max-row-cost"
        )
        if self.cost is not None and self.max_cost is not None and self.cost > self.max_cost:
            share = self.max_cost / self.cost
            lines.append(f"      --max-cost is reached after about {share:.0%} of the rows")
        if self.seconds is not None:
            lines.append(
                f"time: about {time_text(self.seconds)}, {self.concurrency:,} rows at once"
            )
        else:
            least = (
                f", at least {time_text(self.least_seconds)} by the rates"
                if self.least_seconds
                else ""
            )
            lines.append(f"time: unknown before some rows have run{least}")
        return "\n".join(lines)


def estimate(module: RLM, options: argparse.Namespace, rates: Mapping[str, Rate]) -> JobEstimate:
    """Returns what a job is expected to take. No LM is called."""
    journal = JobJournal(local_folder(options.out))
    costs: list[float] = []
    seconds: list[float] = []
    for line in journal.rows():
        if line.get("cost") is not None and line.get("iterations"):
            costs.append(float(line["cost"]))
            seconds.append(float(line.get("seconds") or 0.0))
    rows = count_of(options.rows)
    most, bounded_by = _first_row_at_most(module, options)
    per_minute = [rate.rpm for rate in rates.values() if rate.rpm]
    left = max((rows or 0) - len(journal), 0)
    return JobEstimate(
        rows=rows,
        done=len(journal),
        concurrency=options.concurrency or module._config.lending_pool.max_sessions,
        sampled=len(costs),
        row_cost=statistics.fmean(costs) if costs else None,
        row_margin=_Z95 * statistics.stdev(costs) / math.sqrt(len(costs))
        if len(costs) > 1
        else None,
        row_seconds=statistics.fmean(seconds) if seconds else None,
        row_at_most=most,
        bounded_by=bounded_by,
        max_cost=options.job_cost,
        least_seconds=60.0 * left / min(per_minute) if per_minute else None,
    )


def _first_row_at_most(module: RLM, options: argparse.Namespace) -> tuple[float | None, str]:
    """Returns the upper bound of the first row that can be run, and what bounds it."""
    row = next(
        (
            one
            for one in rows_of(options.rows, module.signature.input_fields, options.key)
            if not one.problem
        ),
        None,
    )
    if row is None:
        return None, ""
    copied = copy.deepcopy(module)
    root, *subs = lms_of(module)
    copied.generate_action.lm = None
    copied._config = dataclasses.replace(
        copied._config, sub_lm=SendsNothing(str(root.model)), journal=False
    )
    budget = module.budget
    try:
        first = first_request(copied, SendsNothing(str(root.model)), row.inputs)
    except RLMError:
        return None, ""
    prompt = prompt_of(None, {**first.options, "messages": first.messages})
    facts = [bounds_of(one, budget) for one in (root, *subs)]
    bill = worst_case(
        budget, facts[0], facts[1:] or facts[:1], prompt.bytes, module.max_output_chars
    )
    by = {"calls": "the calls of a row", "max_cost": "--max-row-cost", "max_tokens": "--max-tokens"}
    return bill.cost, by.get(bill.bounded_by, "")
