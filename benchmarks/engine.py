"""Compares our sandbox with DSPy's, and with Monty if it is installed: `python -m benchmarks.engine --help`.

Plans the rounds, alternates the sides, and prints the results. Every round runs in a separate Python process
(`measure.py`), under a time limit. However this program ends, including by Ctrl-C, it leaves no process and no temporary
file behind.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from benchmarks import monty, peer, report
from benchmarks.measure import PREFLIGHT
from benchmarks.processes import ROOT, ChildFailedError, answer_of
from benchmarks.report import Measured, Result
from benchmarks.rows import ROWS, Row

Side = Literal["ours", "peer", "monty"]
# The first sandbox may have to download Pyodide and build a boot image.
PREFLIGHT_CAP_SECONDS = 300.0
INTERRUPTED = 130


@dataclass(frozen=True)
class Setting:
    """The way in which one side's processes are started."""

    contender: Side
    arguments: Sequence[str]
    environment: dict[str, str]
    root: Path = ROOT
    """The working directory, which decides the checkout that is measured."""


@dataclass(frozen=True)
class Plan:
    """The measurements of this run."""

    rows: Sequence[Row]
    sides: Sequence[Side]
    rounds: int | None
    cap_seconds: float | None

    def rounds_of(self, row: Row, side: Side) -> int:
        """Returns the number of fresh processes for one side of a row."""
        return self.rounds or (row.rounds if side == "ours" else row.peer_rounds)

    def cap_of(self, row: Row) -> float:
        """Returns the seconds that a round of this row may take."""
        return self.cap_seconds or row.cap_seconds


class Bench:
    """One run: its settings for each side, and its results so far."""

    def __init__(self, plan: Plan, settings: dict[Side, Setting]) -> None:
        self._plan = plan
        self._settings = settings
        self._unusable: dict[Side, str] = {}
        self.results: list[Result] = []
        self.sandboxes: dict[str, dict[str, str]] = {}

    def exclude(self, side: Side, reason: str) -> None:
        """Reports every row of a side as failed, for one reason."""
        self._unusable[side] = reason
        _progress(f"{side}: {reason}")

    def preflight(self) -> None:
        """Opens each side once, to warm the caches and to detect a side that cannot start."""
        for side in self._plan.sides:
            if side in self._unusable:
                continue
            _progress(f"{side}: opening a first sandbox to warm the caches")
            try:
                self.sandboxes[side] = self._answer(side, PREFLIGHT, PREFLIGHT_CAP_SECONDS)
            except ChildFailedError as failure:
                self.exclude(side, f"cannot start: {failure}")

    def measure_all(self) -> None:
        """Fills `results`, row by row."""
        for row in self._plan.rows:
            sides = {
                side: Measured(problem=self._unusable.get(side))
                for side in self._plan.sides
                if side == "ours" or not row.ours_alone
            }
            result = Result(
                row, sides.get("ours"), sides.get("peer"), self._plan.sides, sides.get("monty")
            )
            self.results.append(result)
            rounds = max((self._plan.rounds_of(row, side) for side in sides), default=0)
            for number in range(rounds):
                # Alternated, because the first one finds the machine in another state than the second.
                ordered = list(sides) if number % 2 == 0 else list(reversed(sides))
                for side in ordered:
                    if number < self._plan.rounds_of(row, side):
                        self._measure(row, side, sides[side])

    def _measure(self, row: Row, side: Side, measured: Measured) -> None:
        """Adds one round, or the reason why the row ends here for this side."""
        if measured.problem is not None:
            return
        try:
            samples = self._answer(side, row.name, self._plan.cap_of(row))
        except ChildFailedError as failure:
            measured.problem = str(failure)
            _progress(f"{row.name}, {side}: {failure}")
            return
        measured.samples += samples
        measured.rounds += 1
        quantity = report.quantity(samples[-1], row.unit)
        _progress(f"{row.name}, {side}, round {measured.rounds}: {quantity}")

    def _answer(self, side: Side, row: str, cap_seconds: float) -> Any:
        setting = self._settings[side]
        program = [sys.executable, "-m", "benchmarks.measure"]
        command = [*program, setting.contender, row, *setting.arguments]
        return json.loads(answer_of(command, setting.environment, cap_seconds, setting.root))


def main() -> int:
    """Runs the benchmark of the command line; the exit code tells whether it was interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    arguments = _parser().parse_args()
    plan = _plan(arguments)
    with tempfile.TemporaryDirectory(prefix="dspy-rlm-bench-") as folder:
        bench = _bench(plan, Path(folder), arguments)
        code = _run(bench)
    facts = {
        "machine": report.machine(),
        "versions": report.versions(),
        "sandboxes": bench.sandboxes,
        "interrupted": code == INTERRUPTED,
    }
    _print(bench.results, facts)
    if arguments.json is not None:
        document = report.as_json(bench.results, facts)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return code


def _run(bench: Bench) -> int:
    try:
        bench.preflight()
        bench.measure_all()
    except KeyboardInterrupt:
        _progress("interrupted; the results so far follow")
        return INTERRUPTED
    return 0


def _bench(plan: Plan, folder: Path, arguments: argparse.Namespace) -> Bench:
    """Creates the settings of both sides; temporary files of the children go below `folder` as well."""
    scratch = folder / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "DENO_NO_UPDATE_CHECK": "1"}
    settings: dict[Side, Setting] = {"ours": Setting("ours", [], environment)}
    bench = Bench(plan, settings)
    if arguments.before is not None:
        settings["peer"] = Setting("ours", [], environment, arguments.before.resolve())
        return bench
    settings["monty"] = Setting("monty", [], environment)
    if not monty.is_installed() and "monty" in plan.sides:
        bench.exclude("monty", "not installed; pip install pydantic-monty")
    if "peer" in plan.sides:
        try:
            runner = peer.write_patched_runner(folder)
        except peer.PeerUnavailableError as reason:
            bench.exclude("peer", str(reason))
        else:
            peer_environment = {**environment, **peer.environment(arguments.peer_cache)}
            settings["peer"] = Setting("peer", ["--runner", str(runner)], peer_environment)
    return bench


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description="Compare our sandbox with dspy.PythonInterpreter, and with Monty if it is installed.",
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--quick", action="store_true", help="skip the rows that take minutes")
    parser.add_argument(
        "--only", action="append", choices=names, help="measure only this row; repeatable"
    )
    parser.add_argument("--rounds", type=int, help="number of fresh processes per row and side")
    parser.add_argument("--cap", type=float, metavar="SECONDS", help="time limit of each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--peer-cache",
        type=Path,
        default=peer.default_cache(),
        help="folder for the peer's npm packages (default: %(default)s)",
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="CHECKOUT",
        help="compare with another checkout of this project instead of the peer, to measure a change",
    )
    sides = parser.add_mutually_exclusive_group()
    sides.add_argument("--ours-only", action="store_true")
    sides.add_argument("--peer-only", action="store_true")
    return parser


def _plan(arguments: argparse.Namespace) -> Plan:
    rows = [row for row in ROWS if not (arguments.quick and row.slow)]
    if arguments.only:
        rows = [row for row in ROWS if row.name in arguments.only]
    sides: list[Side] = ["ours", "peer", "monty"]
    if arguments.before is not None:
        sides = ["ours", "peer"]
    if arguments.ours_only or arguments.peer_only:
        sides = ["ours"] if arguments.ours_only else ["peer"]
    return Plan(rows, sides, arguments.rounds, arguments.cap)


def _print(results: list[Result], facts: dict[str, Any]) -> None:
    lines = [
        report.table(results),
        "Median (lowest to highest; n samples from r fresh processes); ratio: peer / ours, then Monty / ours.",
        report.problems(results),
        f"Machine: {facts['machine']}",
        f"Versions: {facts['versions']}; in the sandboxes: {facts['sandboxes']}",
        report.summary(results),
    ]
    sys.stdout.write("\n" + "\n".join(line for line in lines if line) + "\n")


def _progress(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _stop(*_: object) -> NoReturn:
    """Ends the run; further signals are ignored, so that they do not disturb the cleanup."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
