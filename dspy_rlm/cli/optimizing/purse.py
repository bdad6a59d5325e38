"""The money and the runs of a whole optimization, counted over all processes that worked on it.

A run is refused, before anything is sent, once its upper bound no longer fits the limit: its own `max_cost`,
else the cost of the most expensive run so far. A run of unknown cost counts at its bound, else as all that was reserved for it.
Once nothing bounds an amount, no run fits any more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import dspy

from dspy_rlm.errors import InputError, RLMError
from dspy_rlm.reports.booked import booked
from dspy_rlm.reports.report import RunReport
from dspy_rlm.rlm import RLM


class PurseEmptyError(RLMError):
    """A run was not begun: its cost might exceed the limit of the optimization."""


class Purse:
    """The limit and the spending of an optimization. Thread-safe."""

    def __init__(self, limit: float | None, record: Path) -> None:
        """Reads the earlier spending.

        Args:
            limit: US dollars; None for no limit.
            record: The file with a line for each amount.
        """
        self._lock = threading.Lock()  # guards all fields below
        self._limit = limit
        self._record = record
        self._amounts: dict[str, float] = {}
        self._unknown = False
        self._held = 0.0
        self._reserved = 0.0
        self._dearest = 0.0
        self.runs = self.refused = self.failed = 0
        self.max_runs: int | None = None
        self.error: Exception | None = None
        """The error of the first run that failed in this process."""
        self.before = self._read()

    def _read(self) -> float:
        total = 0.0
        if self._record.exists():
            for line in self._record.read_text("utf-8").splitlines():
                try:
                    total += float(json.loads(line)["cost"])
                except (ValueError, TypeError, KeyError):
                    continue  # a torn line
        return total

    @property
    def spent(self) -> float | None:
        """US dollars of this process, with bounds of what is unknown; None if nothing bounds a part of it."""
        with self._lock:
            return None if self._unknown else sum(self._amounts.values())

    @property
    def is_empty(self) -> bool:
        """True if not even a run like those before fits."""
        with self._lock:
            return not self._fits(self._dearest)

    def hold(self, amount: float) -> None:
        """Keeps an amount back, for the measurement at the end; 0 releases it."""
        with self._lock:
            self._held = amount

    def _fits(self, amount: float) -> bool:
        if self._limit is None:
            return True
        if self._unknown:
            return False
        spent = self.before + sum(self._amounts.values())
        return spent + self._held + self._reserved + amount <= self._limit

    def pay(self, what: str, cost: float | None) -> None:
        """Books an amount, in the file too."""
        with self._lock:
            if cost is None:
                self._unknown = True
                return
            self._amounts[what] = self._amounts.get(what, 0.0) + cost
            if cost:
                with self._record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"what": what, "cost": cost}) + "\n")

    @contextmanager
    def run(self, max_cost: float | None) -> Iterator[float | None]:
        """Reserves the most that one run may cost, while it runs, and yields it; None if nothing is known of that.

        Raises:
            PurseEmptyError: The limit does not allow it.
        """
        with self._lock:
            amount = self._dearest if max_cost is None else max_cost
            if not self._fits(amount) or (self.max_runs is not None and self.runs >= self.max_runs):
                self.refused += 1
                raise PurseEmptyError("The limit of the whole optimization is reached.")
            self._reserved += amount
            self.runs += 1
        try:
            yield amount or None
        finally:
            with self._lock:
                self._reserved -= amount

    def ended(self, cost: float | None, error: BaseException | None = None) -> None:
        """Books a run. A `cost` of None: nothing bounds it."""
        self.pay("runs", cost)
        with self._lock:
            if cost is not None:
                self._dearest = max(self._dearest, cost)
            if isinstance(error, Exception):
                self.failed += 1
                self.error = self.error or error


class _Counting:
    """Lets an RLM run only within the limit of the purse."""

    purse: ClassVar[Purse]

    def forward(self, /, *arguments: Any, **inputs: Any) -> dspy.Prediction:
        """Runs, and books the cost.

        Raises:
            PurseEmptyError: The limit of the optimization does not allow the run.
            KeyboardInterrupt: Ctrl-C has ended the run.
        """
        with self.purse.run(self.budget.max_cost) as reserved:  # type: ignore[attr-defined]
            try:
                prediction: dspy.Prediction = super().forward(*arguments, **inputs)  # type: ignore[misc]
            except BaseException as error:
                # With a wrong input, nothing was sent.
                is_sent = not isinstance(error, InputError)
                amount = _amount(getattr(error, "run", None), reserved) if is_sent else 0.0
                self.purse.ended(amount, error)
                raise
            self.purse.ended(_amount(prediction.run, reserved))
        if prediction.run.stopped_by == "interrupted":
            raise KeyboardInterrupt
        return prediction


def _amount(run: RunReport | None, reserved: float | None) -> float | None:
    """Returns the US dollars that a run counts as: its cost, its bound, or what was reserved for it."""
    if run is None:
        return reserved
    return booked(booked(run.cost, run.cost_at_most), reserved)


def counted(module: RLM, purse: Purse) -> RLM:
    """Returns the RLM, whose runs and those of its copies are counted."""
    cls = type(module)
    # The purse belongs to the class: optimizers copy modules deeply.
    module.__class__ = type(cls.__name__, (_Counting, cls), {"purse": purse})
    return module
