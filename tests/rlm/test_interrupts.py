"""Ctrl-C: runs end, also those in the threads of DSPy's executors, and the exception says where the report is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import dspy
import pytest

from dspy_rlm import RLM
from dspy_rlm.testing import Action, PolicyServer, policy

TURNS = 40


@policy
def look_around(task: Any) -> Any:
    """Many short turns, without an end."""
    for number in range(TURNS):
        yield Action("Look.", f"print({number})")


class Interrupting:
    """A root LM whose tenth request sends SIGINT to the process."""

    def __init__(self) -> None:
        self._asked = 0
        self._lock = threading.Lock()

    def player(self, request: Any) -> Any:
        """Answers a request."""
        with self._lock:
            self._asked += 1
            if self._asked == 10:
                os.kill(os.getpid(), signal.SIGINT)
        return look_around(request)


def evaluate(rlm: RLM, examples: list[dspy.Example]) -> None:
    """Runs `dspy.Evaluate` in two threads."""
    dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=2)(rlm)


def in_parallel(rlm: RLM, examples: list[dspy.Example]) -> None:
    """Runs `dspy.Parallel` in two threads."""
    dspy.Parallel(num_threads=2, disable_progress_bar=True)([(rlm, one) for one in examples])


def in_batch(rlm: RLM, examples: list[dspy.Example]) -> None:
    """Runs `rlm.batch` in two threads."""
    rlm.batch(examples, num_threads=2)


def in_program(rlm: RLM, examples: list[dspy.Example]) -> None:
    """Runs a program that calls the RLM in two threads."""

    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rlm = rlm

        def forward(self, a: str) -> dspy.Prediction:
            return self.rlm(a=a)

    Program().batch(examples, num_threads=2)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("run_all", [evaluate, in_parallel, in_batch, in_program])
def test_ctrl_c_ends_the_runs_of_all_threads(run_all: Callable[..., None], kept: Any) -> None:
    """The runs that have begun send no further request, except those that were in flight."""
    lm = Interrupting()
    examples = [dspy.Example(a=str(n)).with_inputs("a") for n in range(4)]
    with PolicyServer({"root": lm.player}) as server, dspy.context(lm=server.lm("root")):
        rlm = RLM("a -> b", max_iterations=TURNS, pool=kept)
        before = set(threading.enumerate())
        with pytest.raises(KeyboardInterrupt):
            run_all(rlm, examples)
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("ThreadPoolExecutor"):
                thread.join()

        assert len(server.requests) <= 10 + 4 < 2 * TURNS


def test_the_exception_names_the_report(kept: Any) -> None:
    """The text of the KeyboardInterrupt says after how many steps the run ended, and where its report is."""
    with (
        PolicyServer({"root": Interrupting().player}) as server,
        dspy.context(lm=server.lm("root")),
        pytest.raises(
            KeyboardInterrupt, match=r"was interrupted after .* steps; its report is error\.run"
        ) as caught,
    ):
        RLM("a -> b", max_iterations=TURNS, pool=kept)(a="x")

    run: Any = caught.value.run  # type: ignore[attr-defined]
    assert run.stopped_by == "KeyboardInterrupt"
    assert 8 <= run.iterations <= 11  # the last one is the turn that asks for what there is
