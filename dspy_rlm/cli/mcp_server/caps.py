"""The limits of a server: of each run, and of all runs together. Decides without I/O."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dspy_rlm.cli.exit_codes import BUDGET, USAGE, CommandError

# The limits that a client may lower.
NAMES = (
    *("max_iterations", "max_llm_calls", "max_depth", "max_cost", "max_tokens", "max_seconds"),
)


@dataclass(frozen=True)
class Allowed:
    """The limits of one run."""

    limits: Mapping[str, float | None]
    notes: tuple[str, ...] = ()
    """The limits in the client's request that were above those of the server."""


@dataclass
class Spent:
    """The cost of a run, for the server's total. It counts as all that was reserved until it is known."""

    reserved: float | None = None
    cost: float | None = field(default=None)


class Caps:
    """The limits of the command line, and the use of them by runs. Thread-safe."""

    def __init__(
        self,
        limits: Mapping[str, float],
        *,
        total_cost: float | None = None,
        total_runs: int | None = None,
    ) -> None:
        """Sets the limits.

        Args:
            limits: Those of each run, by name; one that is missing has no limit of its own here.
            total_cost: US dollars of all runs together.
            total_runs: The number of runs.

        Raises:
            CommandError: A total is no usable number.
        """
        for name, value in (("--total-cost", total_cost), ("--total-runs", total_runs)):
            if value is not None and not 0 < value < math.inf:
                raise CommandError(f"{name} must be above 0, not {value}.", USAGE)
        self._limits = dict(limits)
        self._total_cost = total_cost
        self._total_runs = total_runs
        self._lock = threading.Lock()  # guards the next two
        self._runs = 0
        self._cost = 0.0

    def lowered(self, wishes: Mapping[str, Any]) -> Allowed:
        """Returns the limits of a run: those of the server, or lower ones of the client.

        Raises:
            CommandError: A wish is no number above 0.
        """
        limits: dict[str, float | None] = dict(self._limits)
        notes = []
        for name, wish in wishes.items():
            if wish is None:
                continue
            least = 0 if name == "max_depth" else 1e-9
            if name not in NAMES or isinstance(wish, bool) or not least <= wish < math.inf:
                raise CommandError(f"{name} must be a number above 0, not {wish!r:.50}.", USAGE)
            cap = self._limits.get(name)
            if cap is not None and wish > cap:
                notes.append(f"{name} is {cap:g} at most on this server; {wish:g} was asked for.")
                continue
            limits[name] = wish
        return Allowed(limits, tuple(notes))

    @contextmanager
    def run(self, limits: Mapping[str, float | None]) -> Iterator[tuple[dict[str, Any], Spent]]:
        """Yields the limits of a run with its part of the total, and the place for its cost.

        The most that the run may cost is reserved while it runs, so that runs at once do not exceed the total together. A
        cost that is not known afterwards counts as all of that.

        Raises:
            CommandError: The server has no budget left.
        """
        found = {name: value for name, value in limits.items() if value is not None}
        spent = Spent()
        with self._lock:
            if self._total_runs is not None and self._runs >= self._total_runs:
                raise CommandError(
                    f"This server has started all of its {self._total_runs} runs (--total-runs).",
                    BUDGET,
                )
            if self._total_cost is not None:
                left = self._total_cost - self._cost
                if left <= 0:
                    raise CommandError(
                        f"The budget of this server is used up, or in use by other runs (--total-cost "
                        f"{self._total_cost:g}).",
                        BUDGET,
                    )
                spent.reserved = min(left, found.get("max_cost", math.inf))
                found["max_cost"] = spent.reserved
                self._cost += spent.reserved
            self._runs += 1
        try:
            yield found, spent
        finally:
            if spent.reserved is not None and spent.cost is not None:
                with self._lock:
                    self._cost += spent.cost - spent.reserved
