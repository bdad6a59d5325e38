"""The CPU time of the live view: runs with it against runs without it, on a real pseudo-terminal.

    python -m benchmarks.live_view [PAIRS]

Two workloads: 400 sub-calls of half a second in one batch, 16 at once; and cells that print 20 MB. Each is run alternately
with and without the view in one process, after one run of each that does not count. Printed are the medians of the CPU time
of this process (not of the sandbox, which the view does not touch), their difference as a share of one core over the time
of the run, and the CPU time of the thread that draws.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import dspy

from dspy_rlm import RLM
from dspy_rlm.live import refreshing
from dspy_rlm.testing import Action, ChatRequest, PolicyServer, scripted

SUB_CALLS = 400
CALL_SECONDS = 0.5
PRINTED = 20_000_000

BATCH = (
    Action("Ask.", f"answers = sub_llm_batched([f'What is {{n}}?' for n in range({SUB_CALLS})])"),
    Action("Done.", "SUBMIT(answer=str(len(answers)))"),
)
PRINTS = (
    Action("Print.", f"for _ in range({PRINTED // 1000}):\n    print('x' * 999)"),
    Action("Wait.", "import time\ntime.sleep(3)"),
    Action("Done.", "SUBMIT(answer='printed')"),
)

Sample = tuple[float, float, float]
"""CPU seconds of the process, seconds of the run, CPU seconds of the thread that draws."""


def _slow(_request: ChatRequest) -> str:
    time.sleep(CALL_SECONDS)
    return "because"


@contextlib.contextmanager
def on_a_terminal() -> Iterator[None]:
    """Makes stderr a pseudo-terminal of 120 columns and 40 rows, which another process reads."""
    leader, follower = os.openpty()
    if os.fork() == 0:
        os.close(follower)
        with contextlib.suppress(OSError):
            while os.read(leader, 65_536):
                pass
        os._exit(0)
    os.close(leader)
    before, sys.stderr = sys.stderr, os.fdopen(follower, "w")
    os.environ.setdefault("TERM", "xterm-256color")
    try:
        yield
    finally:
        sys.stderr = before


class _Drawn:
    """The CPU time of the threads that draw."""

    seconds = 0.0


def _timed_refreshes() -> None:
    """Adds up the CPU time of the threads that draw."""
    run = refreshing.Refresher._run

    def timed(self: refreshing.Refresher) -> None:
        began = time.thread_time()
        try:
            run(self)
        finally:
            _Drawn.seconds += time.thread_time() - began

    refreshing.Refresher._run = timed  # type: ignore[method-assign]


def sample(server: PolicyServer, live: bool) -> Sample:
    """Runs the workload once."""
    rlm = RLM("text -> answer", sub_lm=server.lm("sub"), live=live, max_llm_calls=SUB_CALLS)
    _Drawn.seconds = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    with dspy.context(lm=server.lm("root")):
        rlm(text="abc")
    wall = time.perf_counter() - wall
    for thread in threading.enumerate():
        if thread.name == "rlm-live":
            thread.join()
    return time.process_time() - cpu, wall, _Drawn.seconds


def measure(name: str, moves: Any, pairs: int) -> None:
    """Prints a row."""
    samples: dict[bool, list[Sample]] = {True: [], False: []}
    with PolicyServer({"root": scripted(*moves), "sub": _slow}) as server:
        for live in (False, True):
            sample(server, live)
        for _ in range(pairs):
            for live in (False, True):
                samples[live].append(sample(server, live))
    cpu = {live: statistics.median(one[0] for one in samples[live]) for live in samples}
    wall = statistics.median(one[1] for one in samples[True])
    drawn = statistics.median(one[2] for one in samples[True])
    print(
        f"{name:<22} {cpu[False]:>8.3f} {cpu[True]:>8.3f} {wall:>8.2f} "
        f"{100 * (cpu[True] - cpu[False]) / wall:>8.2f} % {100 * drawn / wall:>8.2f} %"
    )


def main(pairs: int) -> None:
    """Measures both workloads."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    _timed_refreshes()
    print(f"{'':<22} {'without':>8} {'with':>8} {'run':>8} {'more':>10} {'drawing':>10}")
    print(f"{'':<22} {'CPU s':>8} {'CPU s':>8} {'s':>8} {'of a core':>10} {'of a core':>10}")
    with on_a_terminal():
        measure(f"{SUB_CALLS} sub-calls", BATCH, pairs)
        measure("20 MB printed", PRINTS, pairs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
