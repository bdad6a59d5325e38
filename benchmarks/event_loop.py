"""Measures how long an event loop is blocked while an RLM runs on it: ours and `dspy.RLM`, in one run.

A scripted policy plays the language model, behind a real server on this machine. Meanwhile a coroutine ticks every 2 ms;
the longest time between two ticks, minus these 2 ms, is the stall of a phase.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Otherwise importing DSPy downloads a price list.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from benchmarks.peer import default_cache, deno_command, environment, write_patched_runner
from benchmarks.processes import ChildFailedError, answer_of

TICK_SECONDS = 0.002

# A round that takes longer has no result.
CAP_SECONDS = 300.0

BUSY = "import time\nend = time.time() + 3\nwhile time.time() < end: pass"


@dataclass(frozen=True)
class Phase:
    """One operation of a run."""

    name: str
    signature: str
    cells: Sequence[str]
    inputs: Callable[[], dict[str, Any]] = lambda: {"q": ""}
    tools: Sequence[Callable[..., Any]] = field(default_factory=tuple)


def work(n: int) -> int:
    """Keeps the processor busy for a second."""
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        pass
    return n


PHASES = (
    Phase("a cell of 3 s", "q -> a", [BUSY, "SUBMIT('x')"]),
    Phase("sandbox opened, one cell, closed", "q -> a", ["SUBMIT('x')"]),
    Phase("a plain tool of 1 s", "q -> a", ["print(work(1))", "SUBMIT('x')"], tools=[work]),
    Phase(
        "48 sub-LM calls", "q -> a", ["llm_query_batched([str(n) for n in range(48)])\nSUBMIT('x')"]
    ),
    Phase(
        "100 MB of text in",
        "q -> a",
        ["SUBMIT(str(len(q)))"],
        lambda: {"q": "a line of some text\n" * 5_000_000},
    ),
    Phase(
        "200,000 dicts in, validated",
        "q: list[dict[str, int]] -> a",
        ["SUBMIT(str(len(q)))"],
        lambda: {"q": [{"a": n, "b": n} for n in range(200_000)]},
    ),
    Phase("20 MB of text out", "q -> a", ["SUBMIT('x' * 20_000_000)"]),
    Phase("1 million numbers out", "q -> a: list[int]", ["SUBMIT(list(range(1_000_000)))"]),
)


async def worst_stall(run: Callable[[], Any]) -> float:
    """Returns the longest time in seconds that the loop was blocked while `run()` was awaited."""
    task = asyncio.ensure_future(run())
    worst = 0.0
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        worst = max(worst, time.perf_counter() - began - TICK_SECONDS)
    await task
    return worst


def measure(runner: Path | None, phase: Phase) -> float:
    """Measures one round in this process, after a run that warms up imports and caches.

    With a runner it measures the peer, with DSPy's own interpreter on that runner.
    """
    import dspy
    from dspy.primitives.python_interpreter import PythonInterpreter

    from dspy_rlm import RLM
    from dspy_rlm.testing import Action, PolicyServer, asks_for, route, rules, scripted

    def server_for(cells: Sequence[str]) -> PolicyServer:
        root = scripted(*(Action("", cell) for cell in cells))
        player = route((asks_for("code"), root), otherwise=rules([], default="yes"))
        return PolicyServer({"root": player, "sub": rules([], default="yes")})

    def module(signature: str, tools: Sequence[Callable[..., Any]], sub_lm: Any) -> Any:
        if runner is None:
            return RLM(signature, tools=list(tools), sub_lm=sub_lm)
        interpreter = functools.partial(PythonInterpreter, deno_command=deno_command(runner))
        return dspy.RLM(
            signature, tools=list(tools), sub_lm=sub_lm, interpreter_factory=interpreter
        )

    async def main() -> float:
        with server_for(["SUBMIT('x')"]) as server, dspy.context(lm=server.lm("root")):
            await module("q -> a", (), server.lm("sub")).acall(q="")
        with server_for(phase.cells) as server, dspy.context(lm=server.lm("root")):
            rlm, inputs = module(phase.signature, phase.tools, server.lm("sub")), phase.inputs()
            return await worst_stall(lambda: rlm.acall(**inputs))

    return asyncio.run(main())


def table(rounds: int, names: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yields the rows: the phase, both medians, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        runner = str(write_patched_runner(Path(folder)))
        for name in names:
            ours, peer = (
                _median([_child(name, *where) for _ in range(rounds)]) for where in ((), (runner,))
            )
            ratio = f"{peer / ours:.3g}" if ours and peer else ""
            yield name, _milliseconds(ours), _milliseconds(peer), ratio


def _child(name: str, *runner: str) -> float | None:
    command = [sys.executable, "-m", "benchmarks.event_loop", "--measure", name, *runner]
    surroundings = {**os.environ, **(environment(default_cache()) if runner else {})}
    try:
        return float(json.loads(answer_of(command, surroundings, CAP_SECONDS)))
    except ChildFailedError as error:
        print(f"  {name}, {'dspy.RLM' if runner else 'ours'}: {error}", file=sys.stderr)
        return None


def _median(samples: Sequence[float | None]) -> float | None:
    measured = sorted(sample for sample in samples if sample is not None)
    return measured[len(measured) // 2] if measured else None


def _milliseconds(seconds: float | None) -> str:
    return "no result" if seconds is None else f"{seconds * 1000:,.3g} ms"


def main() -> None:
    """Measures everything; in a child process, one round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.event_loop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=[phase.name for phase in PHASES])
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, *runner = arguments.measure
        phase = next(phase for phase in PHASES if phase.name == name)
        json.dump(measure(Path(runner[0]) if runner else None, phase), sys.stdout)
        return
    print("| phase | ours | `dspy.RLM` | `dspy.RLM` / ours |\n|---|---|---|---|", flush=True)
    for row in table(arguments.rounds, arguments.only or [phase.name for phase in PHASES]):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
