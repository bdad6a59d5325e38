"""Measures one round of one row for one contender, in this process; prints the result as JSON.

`engine.py` starts it once for each round, so that no round is affected by the memory state of another. A failure is an
ordinary traceback, whose last line `engine.py` reports.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.contenders import Contender, Ours, Peer
from benchmarks.monty import Monty
from benchmarks.rows import ROWS

# Not a row: opens a first sandbox, which warms the caches and reports its versions.
PREFLIGHT = "preflight"

VERSIONS_CELL = """\
import platform
try:
    import pyodide
    pyodide_version = pyodide.__version__
except ImportError:
    pyodide_version = "unknown"
print(platform.python_version(), pyodide_version)
"""


def main() -> None:
    """Runs the measurement that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description=__doc__)
    parser.add_argument("contender", choices=["ours", "peer", "monty"])
    parser.add_argument("row", choices=[PREFLIGHT, *(row.name for row in ROWS)])
    parser.add_argument("--runner", type=Path, help="the peer's patched runner.js")
    arguments = parser.parse_args()
    contender = _contender(arguments.contender, arguments.runner)
    answer = (
        preflight(contender) if arguments.row == PREFLIGHT else sample(contender, arguments.row)
    )
    json.dump(answer, sys.stdout)


def _contender(name: str, runner: Path) -> Contender:
    match name:
        case "ours":
            return Ours()
        case "peer":
            return Peer(runner)
        case _:
            return Monty()


def preflight(contender: Contender) -> dict[str, str]:
    """Opens a sandbox once and returns its versions."""
    with contender.open() as repl:
        if isinstance(contender, Monty):
            repl.run("print(1)")
            return {"monty": version("pydantic-monty")}
        python, pyodide = repl.run(VERSIONS_CELL).split()
    return {"python": python, "pyodide": pyodide}


def sample(contender: Contender, name: str) -> list[float]:
    """Returns the samples of one round."""
    row = next(row for row in ROWS if row.name == name)
    return row.measure(contender)


if __name__ == "__main__":
    main()
