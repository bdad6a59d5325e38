"""Measures whether a process that makes many runs grows: `python -m tests.soak.growth --runs 300`.

The runs have everything that could be kept: several turns, sub-calls, typed calls, a sub-run, a compaction, an error. After a
third of the runs the process is measured, and again at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm import RLM, Pool
from dspy_rlm.testing import Action, PolicyServer, asks_for, fields, route, scripted

CELLS = (
    "print('a line of output\\n' * 600)\nx = sub_llm(question)",
    "predict_batched('q -> n: int', ['one', 'two'])",
    "1 / 0",
    "y = sub_rlm('q -> a: str', q='inner').a",
    "print('more\\n' * 900)",
    "SUBMIT(f'{len(history)} {y}')",
)


def models() -> dict[str, Any]:
    """Returns the players of the LMs."""
    sub = route(
        (asks_for("code"), scripted(Action("", "SUBMIT('inner')"))),
        (asks_for("n"), fields(lambda _: {"n": 4})),
        otherwise=lambda _: "yes",
    )
    return {"root": scripted(*(Action("", cell) for cell in CELLS)), "sub": sub}


def forget(server: PolicyServer) -> None:
    """Drops the server's record of its exchanges, which would be growth of its own."""
    with server._lock:
        server._exchanges.clear()


def measured() -> dict[str, int]:
    """Returns what the process holds now."""
    gc.collect()
    status = Path("/proc/self/status")
    resident = 0
    if status.exists():
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmRSS"))
        resident = int(line.split()[1])
    descriptors = Path("/proc/self/fd")
    return {
        "kib": resident,
        "objects": len(gc.get_objects()),
        "threads": threading.active_count(),
        "files": len(os.listdir(descriptors)) if descriptors.exists() else 0,  # noqa: PTH208
    }


def run_many(runs: int, pool: Pool, settings: dict[str, Any]) -> tuple[dict[str, int], ...]:
    """Makes the runs; returns what the process holds after a third of them, and at the end."""
    with PolicyServer(models()) as server:
        options = {"adapter": dspy.ChatAdapter(), **settings}
        with dspy.context(lm=server.lm("root"), **options):
            rlm = RLM("question -> a", sub_lm=server.lm("sub"), pool=pool, history_tokens=2_500)
            begin: dict[str, int] = {}
            for number in range(runs):
                prediction = rlm(question=f"{number}?")
                if prediction.a != "5 inner":
                    raise AssertionError(prediction.a)
                forget(server)
                if number == runs // 3:
                    begin = measured()
            return begin, measured()


def main() -> int:
    """Prints both measurements, and what each run added."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--history", action="store_true", help="let DSPy keep its histories")
    options = parser.parse_args()
    with contextlib.closing(Pool(2)) as pool:
        begin, end = run_many(options.runs, pool, {"disable_history": not options.history})
    runs = options.runs - options.runs // 3 - 1
    grown = {name: round((end[name] - begin[name]) / runs, 2) for name in end}
    print(json.dumps({"begin": begin, "end": end, "per run": grown}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
