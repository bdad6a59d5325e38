"""Measures whether a scripted root with the real model as its sub-LM beats the model itself.

    python -m benchmarks.real_model [--n 100] [--folder figures]

Continues an earlier measurement in the same folder. Writes a page and a JSON file for each task. A scripted policy plays the
root LM: the figures say what the engine adds to a small model if a root is as good as this one, and nothing about real roots.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.real_model.install import data, home
from benchmarks.real_model.items import film_score, films, needle_score, needles, reviews
from benchmarks.real_model.server import RealServer
from benchmarks.real_model.systems import PLAYERS, film_systems, needle_systems
from dspy_rlm import compare
from dspy_rlm.testing import PolicyServer

SEED = 20


def main() -> None:
    """Measures, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="items of each task (100)")
    parser.add_argument("--lines", type=int, default=24, help="review lines of a needle's document")
    parser.add_argument("--only", choices=("needle", "film"), help="one of the tasks")
    parser.add_argument("--folder", type=Path, default=Path("real-model-figures"))
    options = parser.parse_args()
    lines = reviews(data(home()))
    tasks = {
        "needle": (needles(lines, options.n, options.lines, SEED), needle_systems, needle_score),
        "film": (films(lines, options.n, SEED), film_systems, film_score),
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    with RealServer() as model, PolicyServer(PLAYERS) as root:
        for name, (examples, systems, score) in tasks.items():
            if options.only not in (None, name):
                continue
            result = compare(
                examples,
                systems(model, root),
                score,
                file=options.folder / f"{name}.rows.jsonl",
                threads=1,
                on_row=lambda row: print(row.system, row.number, row.score, file=sys.stderr),
            )
            print(result)
            result.save(options.folder / f"{name}.json")
            result.save(options.folder / f"{name}.html")


if __name__ == "__main__":
    main()
