"""Measures how many runs at once a process drives: ours and `dspy.RLM`, each number in a process of its own.

A scripted policy plays the language model behind a server in another process, and answers after two seconds; a run has three
turns with small cells, so it takes six seconds at best. Runs a second depend on what else the machine does; the processor time of a
run and the memory of a sandbox hardly do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Otherwise importing DSPy downloads a price list.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from benchmarks.peer import default_cache, deno_command, environment, write_patched_runner
from benchmarks.processes import ChildFailedError, answer_of

ANSWER_SECONDS = 2.0
TURNS = 3
AT_ONCE = (8, 32, 128, 256)
CAP_SECONDS = 900.0

# A coroutine wakes so often; the lag of the loop is how much later it does.
TICK_SECONDS = 0.01

WATCH_SECONDS = 0.5

SIGNATURE = "text: str -> words: int, numbers: list[int]"
COLUMNS = (
    ("runs", "runs"),
    ("failed", "failed"),
    ("a_second", "runs/s"),
    ("host_cpu", "host CPU s a run"),
    ("sandbox_cpu", "sandbox CPU s a run"),
    ("lag_p50", "lag p50 ms"),
    ("lag_p99", "lag p99 ms"),
    ("sandboxes", "sandboxes"),
    ("sandbox_mb", "MB each"),
    ("host_mb", "host MB"),
)


def script(task: Any) -> Generator[Any, Any, None]:
    """Looks, counts, and submits."""
    from dspy_rlm.testing import Action

    yield Action("Look.", "print(len(text), text[:40])")
    yield Action("Count.", "words = text.split()\nprint(len(words))")
    numbers = "[int(word) for word in words if word.isdecimal()][:5]"
    yield Action("Done.", f"SUBMIT(words=len(words), numbers={numbers})")


def serve() -> None:
    """Plays the LM until its input ends; prints the address first."""
    from dspy_rlm.testing import PolicyServer, policy

    play = policy(script)

    def reply(request: Any) -> str:
        time.sleep(ANSWER_SECONDS)
        return play(request)

    with PolicyServer({"root": reply}) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


class Watch:
    """The sandboxes of this process: their number, their memory, and their processor time as far as they have not ended."""

    def __init__(self) -> None:
        self.most = self.sandbox_bytes = self.host_bytes = 0
        # The kernel adds up each process's memory page by page, in this process's time.
        self.own_seconds = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            sizes = [size for pid in children() if (size := own_bytes(pid)) > 0]
            if len(sizes) >= self.most and sizes:
                self.most, self.sandbox_bytes = len(sizes), sum(sizes) // len(sizes)
            self.host_bytes = max(self.host_bytes, own_bytes(os.getpid()))
            self.own_seconds = time.thread_time()


def children() -> list[int]:
    """Returns the Deno processes of this process."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text("ascii").split()]
    return [pid for pid in found if _is_deno(pid)]


def _is_deno(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"deno" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return False


def own_bytes(pid: int) -> int:
    """Returns the proportional set size: memory that processes share counts in parts."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def live_seconds() -> float:
    """Returns the processor time of the sandboxes that have not ended."""
    total = 0.0
    for pid in children():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def cpu_seconds() -> tuple[float, float]:
    """Returns the processor time of this process, and of its sandboxes."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    sandboxes = ended.ru_utime + ended.ru_stime + live_seconds()
    return own.ru_utime + own.ru_stime, sandboxes


async def lags(found: list[float]) -> None:
    """Adds the lag of each tick."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        found.append(time.perf_counter() - began - TICK_SECONDS)


def measure(runner: str, at_once: int, runs: int, url: str) -> dict[str, Any]:
    """Measures runs in this process; with a runner, those of `dspy.RLM` on it."""
    import dspy

    from dspy_rlm import RLM

    module: Any = RLM(SIGNATURE)
    if runner:
        from dspy.primitives.python_interpreter import PythonInterpreter

        command = deno_command(Path(runner))
        factory = functools.partial(PythonInterpreter, deno_command=command)
        module = dspy.RLM(SIGNATURE, interpreter_factory=factory)
    module.set_lm(dspy.LM("openai/root", api_base=url, api_key="none", cache=False))
    failed: list[str] = []

    async def one(number: int, room: asyncio.Semaphore) -> None:
        async with room:
            text = f"row {number} " + "the quick brown fox 12 jumps over 7 dogs " * 500
            try:
                prediction = await module.acall(text=text)
                if prediction.numbers[:3] != [number, 12, 7]:
                    failed.append(f"{prediction.numbers}")
            except Exception as error:  # noqa: BLE001 - counted
                failed.append(f"{type(error).__name__}: {error}"[:200])

    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max(at_once, 32)))
        room = asyncio.Semaphore(at_once)
        await one(0, room)  # imports and caches
        found: list[float] = []
        with Watch() as watch:
            ticking = asyncio.create_task(lags(found))
            before, began = cpu_seconds(), time.perf_counter()
            await asyncio.gather(*(one(number + 1, room) for number in range(runs)))
            seconds, after = time.perf_counter() - began, cpu_seconds()
            ticking.cancel()
        found.sort()
        return {
            "runs": runs,
            "failed": len(failed),
            "a_second": round(runs / seconds, 2),
            "host_cpu": round((after[0] - before[0] - watch.own_seconds) / runs, 3),
            "sandbox_cpu": round((after[1] - before[1]) / runs, 2),
            "lag_p50": round(1000 * found[len(found) // 2], 1),
            "lag_p99": round(1000 * found[len(found) * 99 // 100], 1),
            "sandboxes": watch.most,
            "sandbox_mb": round(watch.sandbox_bytes / 1e6),
            "host_mb": round(watch.host_bytes / 1e6),
            "reasons": sorted(set(failed))[:3],
        }

    return asyncio.run(main())


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Runs the server in a process of its own; yields its address."""
    command = [sys.executable, "-m", "benchmarks.scale", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
        process.communicate()


def figures(name: str, runner: str, at_once: int, runs: int) -> dict[str, Any]:
    """Returns the figures of one number of runs at once, measured in a new process."""
    surroundings = {**os.environ, **(environment(default_cache()) if runner else {})}
    with server() as url:
        arguments = [runner, str(at_once), str(runs), url]
        command = [sys.executable, "-m", "benchmarks.scale", "--measure", *arguments]
        try:
            found: dict[str, Any] = json.loads(answer_of(command, surroundings, CAP_SECONDS))
        except ChildFailedError as error:
            found = {"reasons": [str(error)]}
    return {"name": name, "at_once": at_once, **found}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--at", default=",".join(map(str, AT_ONCE)), help="runs at once")
    parser.add_argument("--rounds", type=int, default=2, help="runs are so many times that number")
    parser.add_argument("--peer-at", default="8", help='runs at once of dspy.RLM; "" for none')
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.serve:
        serve()
        return
    if arguments.measure:
        runner, at_once, runs, url = arguments.measure
        print(json.dumps(measure(runner, int(at_once), int(runs), url)))
        return
    print("| | at once | " + " | ".join(title for _, title in COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        runner = str(write_patched_runner(Path(folder)))
        plan = [("dspy_rlm.RLM", "", at) for at in _numbers(arguments.at)]
        plan += [("dspy.RLM", runner, at) for at in _numbers(arguments.peer_at)]
        for name, where, at_once in plan:
            found = figures(name, where, at_once, arguments.rounds * at_once)
            cells = [str(found.get(column, "")) for column, _ in COLUMNS]
            print(f"| {name} | {at_once} | " + " | ".join(cells) + " |", flush=True)
            for reason in found.get("reasons", ()):
                print(f"  {reason}", file=sys.stderr)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


if __name__ == "__main__":
    main()
