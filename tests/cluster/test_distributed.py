"""Modules whose calls run on a Ray cluster: for callers and optimizers they are the same as those that run here."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import cloudpickle
import dspy
import pytest

import dspy_rlm
from benchmarks.counting import DEVSET, KEYWORD, TRAINSET, make_server, score
from benchmarks.optimizers import make_mipro, ours
from dspy_rlm.errors import InputError, RunFailedError
from dspy_rlm.testing import (
    Action,
    Observation,
    PolicyServer,
    Task,
    asks_for,
    policy,
    route,
    rules,
)

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("default"),  # of Ray
]

KEY = "sk-of-the-driver-0123456789abcdef"


def count_words(task: Task) -> Generator[Any, Observation, None]:
    if "unreadable" in task.variables_info:
        while True:
            yield Action("Go on.", "print(text)")
    seen = yield Action("Count the words.", "print(len(text.split()))")
    yield Action("That is it.", f"SUBMIT(count={int(seen.output)})")


PROPOSAL = "Count carefully, and then SUBMIT."


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyServer]:
    """Plays the root LM, and the LM that proposes instructions."""
    proposer = route([(asks_for("code"), policy(count_words))], rules([], f"```\n{PROPOSAL}\n```"))
    with PolicyServer({"root": policy(count_words), "proposer": proposer}) as one:
        yield one


@pytest.fixture(scope="module")
def distributed(ray_cluster, server) -> Iterator[Any]:
    """A distributed RLM whose LM has a key of the driver's."""
    rlm = dspy_rlm.RLM("text -> count: int", max_iterations=4, on_exhausted="raise")
    rlm.set_lm(dspy.LM("openai/root", api_base=server.base_url, api_key=KEY, cache=False))
    program = dspy_rlm.ray.distributed(rlm, runs_per_worker=4)
    yield program
    program.close()


EXAMPLES = [
    dspy.Example(text=" ".join(["word"] * number), count=number).with_inputs("text")
    for number in range(1, 7)
]


def metric(example: Any, prediction: Any, *_: Any) -> float:
    return float(example.count == prediction.count)


class TestCalls:
    def test_predictions_traces_and_usage_come_back(self, distributed):
        """The entries of the trace have the caller's own predictors, as an optimizer compares them."""
        with dspy.context(trace=[], track_usage=True):
            prediction = distributed(text="one two three")
            trace = dspy.settings.trace

        assert prediction.count == 3
        assert prediction.run.status == "submitted"
        assert [one is distributed.module.generate_action for one, _, _ in trace] == [True, True]
        assert "print(len" in trace[0][2].code
        assert prediction.get_lm_usage()["openai/root"]["total_tokens"] > 0

    def test_calls_can_be_awaited(self, distributed):
        """Many at once."""

        async def calls() -> list[Any]:
            return await asyncio.gather(*(distributed.acall(text="a " * n) for n in (1, 2, 3)))

        assert [one.count for one in asyncio.run(calls())] == [1, 2, 3]

    def test_errors_come_back_with_their_reports(self, distributed):
        """So do inputs that do not fit."""
        with dspy.context(trace=[]):
            with pytest.raises(RunFailedError) as failed:
                distributed(text="unreadable")
            trace = dspy.settings.trace
        with pytest.raises(InputError):
            distributed(words="x")

        assert failed.value.run.iterations > 0
        assert failed.value.signature is distributed.module.generate_action.signature
        assert {id(one) for one, _, _ in trace} == {id(distributed.module.generate_action)}

    def test_no_key_is_sent(self, distributed):
        """Neither with the module nor with the settings. The worker has its own key in its environment."""
        lm = distributed.module.generate_action.lm
        with dspy.context(lm=lm):
            shipment = distributed._shipment((), {"text": "x", "lm": lm})

        assert KEY.encode() not in cloudpickle.dumps((distributed, shipment))

    def test_a_worker_without_the_key_says_so_before_anything_is_sent(self, ray_cluster, server):
        """With the place where it belongs."""
        rlm = dspy_rlm.RLM("text -> count: int")
        rlm.set_lm(dspy.LM("openai/root", api_base=server.base_url, api_key=KEY, cache=False))
        options = {"runtime_env": {"env_vars": {"OPENAI_API_KEY": ""}}}
        program = dspy_rlm.ray.distributed(rlm, options=options)
        before = len(server.requests)

        with pytest.raises(dspy.LMNotConfiguredError, match="environment variable in this process"):
            program(text="x")
        program.close()

        assert len(server.requests) == before

    def test_a_call_whose_worker_is_killed_is_made_again(self, distributed):
        """The caller sees nothing of it."""
        pytest.importorskip("psutil", reason="psutil is not installed: pip install psutil")
        distributed(text="first")
        killed = []

        def kill(example: Any, prediction: Any, trace: Any = None) -> float:
            if not killed:
                killed.extend(actor_processes())
                for process in killed:
                    os.kill(process, signal.SIGKILL)
            return metric(example, prediction)

        result = dspy.Evaluate(devset=EXAMPLES * 2, metric=kill, num_threads=4)(distributed)

        assert killed
        assert result.score == 100.0


class TestOptimizers:
    def test_gepa_optimizes_it(self, distributed, server):
        """Its result runs without a cluster."""
        lm = dspy.LM("openai/proposer", api_base=server.base_url, api_key=KEY, cache=False)
        gepa = dspy.GEPA(
            metric=lambda example, prediction, *_: dspy.Prediction(
                score=metric(example, prediction) * 0.5, feedback="Be brief."
            ),
            reflection_lm=lm,
            max_metric_calls=20,
            num_threads=4,
        )

        better = gepa.compile(distributed, trainset=EXAMPLES[:3], valset=EXAMPLES[3:])

        assert isinstance(better.module, dspy_rlm.RLM)
        assert better.module(text="a b").count == 2
        assert better._crew is distributed._crew

    def test_bootstrapping_finds_demonstrations_in_the_traces(self, distributed, server):
        """Each demonstration is a step of a run in a worker."""
        lm = dspy.LM("openai/proposer", api_base=server.base_url, api_key=KEY, cache=False)
        optimizer = dspy.BootstrapFewShot(
            metric=metric, max_bootstrapped_demos=2, max_labeled_demos=0
        )
        with dspy.context(lm=lm):
            better = optimizer.compile(distributed, trainset=EXAMPLES[:3])

        assert any("print(len" in demo["code"] for demo in better.module.generate_action.demos)

    @pytest.mark.parametrize("demos", [0, 1], ids=["instructions", "demonstrations"])
    def test_mipro_optimizes_it(self, ray_cluster, demos):
        """A worker runs the candidate of each trial, with its instruction and the demonstrations of workers' traces."""
        pytest.importorskip("optuna", reason="optuna is not installed: pip install optuna")
        with make_server() as server:
            rlm = ours()
            rlm.set_lm(server.lm("root"))
            program = dspy_rlm.ray.distributed(rlm, runs_per_worker=4)
            mipro = make_mipro(server, demos, threads=4)
            before = score(program)
            better = mipro.compile(
                program, trainset=TRAINSET, valset=DEVSET, num_trials=3, minibatch=False
            )
            on_the_cluster = score(better)
            program.close()
            here = score(better.module)  # the workers have ended

        assert (before, on_the_cluster, here) == (50.0, 100.0, 100.0)
        assert isinstance(better.module, dspy_rlm.RLM)
        assert better._crew is program._crew
        action = better.module.generate_action
        # Either makes the policy count right, so with both the optimizer may choose one.
        assert KEYWORD in action.signature.instructions or (demos and action.demos)
        assert KEYWORD not in rlm.generate_action.signature.instructions
        assert not rlm.generate_action.demos

    def test_a_compiled_module_still_shows_its_predictors(self, distributed):
        """DSPy skips a compiled module inside of another, so the mark moves to the outer one."""
        module = distributed.module.deepcopy()
        module._compiled = True

        program = dspy_rlm.ray.distributed(module)

        assert [name for name, _ in program.named_predictors()] == ["module.generate_action"]
        assert program._compiled
        assert module._compiled


def actor_processes() -> list[int]:
    """Returns the processes of this cluster's workers: descendants of this process, which has started the cluster."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if command and command[0].startswith("ray::WorkerProcess"):
            found.append(process.pid)
    return found
