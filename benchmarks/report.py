"""Computes statistics of samples, and formats them as text and JSON. Measures nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Literal

from benchmarks.rows import Row

FORMAT = 1
PACKAGES = ("dspy-rlm", "dspy", "deno")


@dataclass
class Measured:
    """The samples of one contender in one row."""

    samples: list[float] = field(default_factory=list)
    rounds: int = 0
    problem: str | None = None
    """The reason why there is no result, or not one of all rounds."""

    @property
    def median(self) -> float | None:
        """The median of all samples, unless the row failed."""
        return median(self.samples) if self.samples and self.problem is None else None


@dataclass(frozen=True)
class Result:
    """One row with its sides; None for a side that was not requested."""

    row: Row
    ours: Measured | None
    peer: Measured | None
    requested: Collection[Literal["ours", "peer", "monty"]] = ("ours", "peer")
    monty: Measured | None = None

    @property
    def peerless(self) -> bool:
        """True if the peer was requested and has nothing to measure."""
        return "peer" in self.requested and bool(self.row.ours_alone)

    @property
    def ratio(self) -> float | None:
        """The peer's median divided by ours."""
        return self._ratio_of(self.peer)

    @property
    def monty_ratio(self) -> float | None:
        """Monty's median divided by ours."""
        return self._ratio_of(self.monty)

    def _ratio_of(self, other: Measured | None) -> float | None:
        ours = self.ours.median if self.ours else None
        theirs = other.median if other else None
        return theirs / ours if ours and theirs else None


def table(results: list[Result]) -> str:
    """Returns the rows as aligned text: median, spread, samples and rounds of both sides, and the ratio."""
    head = ["", "ours", "peer", "ratio"]
    lines = [head, *(_cells(result) for result in results)]
    if any(result.monty for result in results):
        lines = [
            [*head, "Monty", "ratio"],
            *([*_cells(result), *_monty_cells(result)] for result in results),
        ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def problems(results: list[Result]) -> str:
    """Returns one line for each missing result, with the reason."""
    missing = [
        f"{result.row.name}, {side}: {measured.problem}"
        for result in results
        for side, measured in (
            ("ours", result.ours),
            ("peer", result.peer),
            ("monty", result.monty),
        )
        if measured and measured.problem
    ]
    none = [
        f"{result.row.name}, peer: none, {result.row.ours_alone}"
        for result in results
        if result.peerless
    ]
    return "\n".join(missing + none)


def summary(results: list[Result]) -> str:
    """Returns a closing line."""
    compared = sorted((r.ratio, r.row.title) for r in results if r.ratio is not None)
    missing = len(results) - len(compared)
    rest = f"; {missing} of {len(results)} rows without a ratio" if missing else ""
    if not compared:
        return f"Summary: nothing compared{rest}."
    ahead = sum(ratio > 1 for ratio, _ in compared)
    (low, low_title), (high, high_title) = compared[0], compared[-1]
    return (
        f"Summary: ours ahead in {ahead} of {len(compared)} rows; peer/ours from "
        f"{_times(low)} ({low_title}) to {_times(high)} ({high_title}){rest}."
    )


def as_json(results: list[Result], facts: dict[str, Any]) -> dict[str, Any]:
    """Returns all results, for machines."""
    return {"format": FORMAT, **facts, "rows": [_row_json(result) for result in results]}


def machine() -> dict[str, Any]:
    """Returns a description of this machine."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Returns the versions of the host's Python and of the relevant packages."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def quantity(value: float, unit: Literal["seconds", "bytes"]) -> str:
    """Formats a value with its unit."""
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    for scale, name in ((1, "s"), (1e-3, "ms")):
        if value >= scale:
            return f"{value / scale:.3g} {name}" if value < 1000 * scale else f"{value:.0f} s"
    return f"{value / 1e-6:.3g} µs"


def _monty_cells(result: Result) -> tuple[str, str]:
    ratio = _times(result.monty_ratio) if result.monty_ratio is not None else "-"
    return (_side(result, result.monty) if result.monty else "none", ratio)


def _cells(result: Result) -> list[str]:
    ratio = _times(result.ratio) if result.ratio is not None else "-"
    ours = _side(result, result.ours)
    peer = "none" if result.peerless else _side(result, result.peer)
    return [result.row.title, ours, peer, ratio]


def _side(result: Result, measured: Measured | None) -> str:
    if measured is None:
        return "not measured"
    if measured.median is None:
        return "failed, see below" if measured.problem else "not reached"
    unit = result.row.unit
    low, high = quantity(min(measured.samples), unit), quantity(max(measured.samples), unit)
    count = len(measured.samples)
    return f"{quantity(measured.median, unit)} ({low} to {high}; n={count}, r={measured.rounds})"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.2g}x"


def _row_json(result: Result) -> dict[str, Any]:
    return {
        "name": result.row.name,
        "title": result.row.title,
        "unit": result.row.unit,
        "ours": _side_json(result.ours),
        "peer": _side_json(result.peer),
        "ratio": result.ratio,
        "monty": _side_json(result.monty),
        "monty_ratio": result.monty_ratio,
        "ours_alone": result.row.ours_alone,
    }


def _side_json(measured: Measured | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    return {
        "median": measured.median,
        "min": min(measured.samples, default=None),
        "max": max(measured.samples, default=None),
        "samples": measured.samples,
        "rounds": measured.rounds,
        "problem": measured.problem,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
