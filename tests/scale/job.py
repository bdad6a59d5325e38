"""The driver of the job: `python -m tests.scale.job OUT CLUSTER SERVER ROWS`. Started again, it goes on."""

from __future__ import annotations

import os
import signal
import sys

import dspy

import dspy_rlm
from dspy_rlm.ray.engine import RayEngine

# The row that ends its worker, at each try.
POISON = "row-13"

# Tries of a row: a kill may hit an innocent one twice.
ATTEMPTS = 3

RUNS_PER_WORKER = 4


def look_up(name: str) -> int:
    """Ends the process of the worker if it is asked for the poison row."""
    if name == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(name)


def row(number: int) -> dict[str, str]:
    """Returns one row: its text has as many words as its number says."""
    return {"id": f"row-{number}", "text": f"row-{number} " + "word " * number}


def main() -> int:
    """Runs the job to its end."""
    out, cluster, server, rows = sys.argv[1:]
    rlm = dspy_rlm.RLM("text -> name: str, words: int", tools=[look_up])
    rlm.set_lm(dspy.LM("openai/root", api_base=server, api_key="of-the-driver", cache=False))
    report = dspy_rlm.batch(
        rlm,
        (row(number) for number in range(int(rows))),
        out=out,
        key="id",
        engine=RayEngine(cluster, workers_per_node=1, runs_per_worker=RUNS_PER_WORKER),
        attempts=ATTEMPTS,
    )
    print(report)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
