"""One round of one row for one contender, in this process; the answer is JSON on stdout.

Started by `engine.py`, once per round, so that no round sees what another left in memory. A
failure is an ordinary traceback, whose last line `engine.py` reports.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.contenders import Contender, Ours, Peer
from benchmarks.rows import ROWS

# Not a row: a first sandbox, which fills the caches and tells what it runs on.
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
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description=__doc__)
    parser.add_argument("contender", choices=["ours", "peer"])
    parser.add_argument("row", choices=[PREFLIGHT, *(row.name for row in ROWS)])
    parser.add_argument("--runner", type=Path, help="the peer's patched runner.js")
    arguments = parser.parse_args()
    contender: Contender = Ours() if arguments.contender == "ours" else Peer(arguments.runner)
    answer = (
        preflight(contender) if arguments.row == PREFLIGHT else sample(contender, arguments.row)
    )
    json.dump(answer, sys.stdout)


def preflight(contender: Contender) -> dict[str, str]:
    """Open a sandbox once and ask it for its versions."""
    with contender.open() as repl:
        python, pyodide = repl.run(VERSIONS_CELL).split()
    return {"python": python, "pyodide": pyodide}


def sample(contender: Contender, name: str) -> list[float]:
    """The samples of one round."""
    row = next(row for row in ROWS if row.name == name)
    return row.measure(contender)


if __name__ == "__main__":
    main()
