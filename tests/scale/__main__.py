"""`python -m tests.scale --rows 200 --seed 1`: says what went wrong, and exits with 1 if anything did.

Workers, nodes and the driver of a job are killed at random while it runs. Every row must end once, with the answer that it
has without kills; hardly a call may be paid twice; and no process may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from dspy_rlm.testing import PolicyServer
from dspy_rlm.testing.server import DUMMY_API_KEY

from .cluster import Nodes
from .job import POISON, row
from .lm_server import CALLS_A_ROW, paid, serve

PATIENCE_SECONDS = 3_000


def main() -> int:
    """Runs one trial."""
    arguments = _parser().parse_args()
    random.seed(arguments.seed)
    os.environ["OPENAI_API_KEY"] = DUMMY_API_KEY
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    kills = ["actor"] * arguments.actors + ["raylet"] * arguments.raylets
    kills += ["driver"] * arguments.drivers
    random.shuffle(kills)
    with tempfile.TemporaryDirectory() as folder, serve(arguments.latency) as server:
        nodes = Nodes(uuid.uuid4().hex)
        began = time.monotonic()
        try:
            out = Path(folder) / "job"
            _run(arguments, nodes, server, out, kills)
            problems = _check(out, server, arguments)
        finally:
            nodes.close()
        problems += _left(nodes)
        say(f"{time.monotonic() - began:.0f} s")
    for problem in problems:
        say(f"WRONG: {problem}")
    say("failed" if problems else "ok")
    return 1 if problems else 0


def _run(
    arguments: argparse.Namespace, nodes: Nodes, server: PolicyServer, out: Path, kills: list[str]
) -> None:
    """Runs the job, with a kill after each share of its calls, until a driver ends by itself."""
    calls = CALLS_A_ROW * arguments.rows
    due = [calls * (number + 1) // (len(kills) + 2) for number in range(len(kills))]
    driver = _driver(nodes, server, out, arguments.rows)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while driver.poll() is None:
        if time.monotonic() > deadline:
            driver.kill()
            raise TimeoutError("the job does not end")
        time.sleep(0.2)
        if due and len(server.requests) >= due[0]:
            due.pop(0)
            kind = kills.pop(0)
            if kind == "driver":
                driver.kill()
                driver.wait()
                driver, killed = _driver(nodes, server, out, arguments.rows), "driver"
            else:
                killed = nodes.kill_actor() if kind == "actor" else nodes.kill_node()
            say(f"killed {killed} after {len(server.requests)} calls")
    if driver.returncode:
        raise RuntimeError(f"the driver ended with {driver.returncode}")


def _driver(nodes: Nodes, server: PolicyServer, out: Path, rows: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.scale.job",
        str(out),
        nodes.address,
        server.base_url,
        str(rows),
    ]
    return subprocess.Popen(command)


def _check(out: Path, server: PolicyServer, arguments: argparse.Namespace) -> list[str]:
    problems, rows = [], arguments.rows
    results = [json.loads(line) for line in (out / "rows.jsonl").read_text("utf-8").splitlines()]
    by_key = {one["key"]: one for one in results}
    if len(results) != rows or len(by_key) != rows:
        problems.append(f"{len(results)} rows with {len(by_key)} keys, instead of {rows}")
    for number in range(rows):
        name = row(number)["id"]
        one = by_key.get(name)
        if one is None:
            problems.append(f"{name} is missing")
        elif name == POISON:
            if one["status"] != "given_up":
                problems.append(f"{name} is {one['status']}")
        elif (one["status"], one["name"], one["words"]) != ("submitted", name, number):
            problems.append(f"{name}: {one}")
    calls = paid(server)
    fewest = CALLS_A_ROW * (rows - 1) + 2  # the poison ends its worker in its second turn
    more = sum(calls.values()) / fewest - 1
    say(f"{sum(calls.values())} calls paid, {fewest} at least: {more:+.2%}")
    say(f"rows by their calls: {dict(sorted(Counter(calls.values()).items()))}")
    say(f"rows by their end: {dict(Counter(one['status'] for one in results))}")
    if more > arguments.more:
        problems.append(f"{more:.2%} more calls paid than needed")
    return problems


def _left(nodes: Nodes) -> list[str]:
    """Returns the processes that are still there some seconds after the end."""
    for _ in range(100):
        if not (left := nodes.processes()):
            return []
        time.sleep(0.2)
    return [f"left: {process}" for process in left]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds of an LM call")
    parser.add_argument("--more", type=float, default=0.03, help="share of calls paid again")
    parser.add_argument("--actors", type=int, default=4, help="kills of actors")
    parser.add_argument("--raylets", type=int, default=2, help="kills of nodes")
    parser.add_argument("--drivers", type=int, default=2, help="kills of the driver")
    return parser


def say(text: str) -> None:
    """Prints a line."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
