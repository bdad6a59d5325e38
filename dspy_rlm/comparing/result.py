"""The result of a comparison: its rows, what they say, and its forms as text, JSON, page and table."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.comparing.advice import MARGIN, Advice, advise
from dspy_rlm.comparing.rows import Row
from dspy_rlm.comparing.statistics import Bin, bin_of, binned, paired

FORMAT, VERSION = "dspy-rlm/comparison", 1


@dataclasses.dataclass(frozen=True)
class ComparisonResult:
    """Several systems on the same items. `print` shows it; `save` writes it as a page."""

    systems: tuple[str, ...]
    """The names of the systems."""

    rows: tuple[Row, ...] = dataclasses.field(repr=False)
    """All that were measured. Scores count only the items that all systems have a row for."""

    items: int
    """Items that were to be measured."""

    name: str = ""
    """The task; empty for examples."""

    metric: str = ""
    """The name of the metric."""

    stopped_by: str = ""
    """`max_cost`, `max_seconds` or `price unknown` if not all items were measured."""

    margin: float = MARGIN
    """A system counts as as good as the best one if with 95 % confidence it is worse by no more than this."""

    seed: int = 0
    """The seed of the bootstrap."""

    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The names of the LMs by system, as far as they are known."""

    @functools.cached_property
    def pairs(self) -> tuple[Mapping[str, Row], ...]:
        """The items that all systems have a row for."""
        return tuple(paired(self.rows, self.systems))

    @functools.cached_property
    def overall(self) -> Bin:
        """The systems over all pairs."""
        return bin_of(self.pairs, self.systems, seed=self.seed)

    @functools.cached_property
    def bins(self) -> tuple[Bin, ...]:
        """The systems by lengths of the inputs."""
        return binned(self.pairs, self.systems, self.seed)

    @functools.cached_property
    def advice(self) -> tuple[Advice, ...]:
        """The system to use at each length."""
        return advise(self.bins, self.margin)

    @property
    def cost(self) -> float | None:
        """US dollars of all rows; None if the price of one is unknown."""
        costs = [row.cost for row in self.rows]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def __str__(self) -> str:
        from dspy_rlm.comparing.text import text_of

        return text_of(self)

    def dump(self) -> dict[str, Any]:
        """Returns the result as plain data."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "metric": self.metric,
            "systems": list(self.systems),
            "models": dict(self.models),
            "items": self.items,
            "pairs": len(self.pairs),
            "stopped_by": self.stopped_by or None,
            "margin": self.margin,
            "seed": self.seed,
            "cost": self.cost,
            "overall": _dumped(self.overall),
            "bins": [_dumped(one) for one in self.bins],
            "advice": [dataclasses.asdict(one) for one in self.advice],
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> ComparisonResult:
        """Returns the result of `dump`, from JSON too.

        Raises:
            ValueError: It is something else.
        """
        if values.get("format") != FORMAT:
            raise ValueError("This is not the result of a comparison.")
        return cls(
            tuple(values["systems"]),
            tuple(Row(**row) for row in values["rows"]),
            values["items"],
            values["name"],
            values["metric"],
            values["stopped_by"] or "",
            values["margin"],
            values["seed"],
            dict(values["models"]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the result: `.json`, or `.html` for a page that needs no network.

        Raises:
            ValueError: The name of the file ends in another way.
        """
        target = Path(path)
        if target.suffix == ".json":
            target.write_text(json.dumps(self.dump(), indent=1), "utf-8")
        elif target.suffix in (".html", ".htm"):
            target.write_text(self.html(), "utf-8")
        else:
            raise ValueError(f"{target} must end with .json or .html.")

    def html(self) -> str:
        """Returns a page with everything: the recommendation, a picture of costs and scores, tables and failures."""
        from dspy_rlm.comparing.page import page_of

        return page_of(self)

    def to_dataframe(self) -> Any:
        """Returns the rows as a `pandas.DataFrame`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                'to_dataframe() needs pandas. Install it with `pip install "dspy-rlm[compare]"`.'
            ) from error
        return pd.DataFrame([dataclasses.asdict(row) for row in self.rows])


def _dumped(found: Bin) -> dict[str, Any]:
    return {
        "low": found.low,
        "high": found.high,
        "items": found.items,
        "systems": [dataclasses.asdict(one) for one in found.systems],
        "differences": [
            {"of": one, "less": other, **dataclasses.asdict(gap)}
            for (one, other), gap in found.differences.items()
        ],
    }
