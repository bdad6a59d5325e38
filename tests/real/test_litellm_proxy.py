"""The engine behind LiteLLM's proxy, with the real model behind that: counts, cost, streams, limits, failures.

    python -m benchmarks.real_model.install FOLDER
    python -m benchmarks.real_model.proxy PROXY
    DSPY_RLM_REAL_MODEL=FOLDER DSPY_RLM_LITELLM_PROXY=PROXY pytest -m real -n 0 tests/real

No test looks at what the model says.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.streaming import StatusMessage

from benchmarks.real_model.install import home, is_installed
from benchmarks.real_model.proxy import PRICES, Proxy, command_of
from benchmarks.real_model.proxy import home as proxy_home
from benchmarks.real_model.recorder import Recorder
from benchmarks.real_model.server import NAME, RealServer
from dspy_rlm import RLM, RunFailedError
from dspy_rlm.testing import Action, PolicyServer, scripted
from sandbox_runtime.helpers import start_thread

pytestmark = [
    pytest.mark.real,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (is_installed(home()) and command_of(proxy_home()).exists()),
        reason="Not installed: python -m benchmarks.real_model.install, python -m benchmarks.real_model.proxy",
    ),
]

WRONG_KEY = "sk-of-somebody-else-0123456789"

QUESTIONS = [f"Write one short sentence about the number {number}." for number in range(12)]


@pytest.fixture(scope="module")
def model() -> Iterator[RealServer]:
    """The server, with two slots of 2,048 tokens."""
    with RealServer(tokens=2_048, slots=2) as server:
        yield server


@pytest.fixture(scope="module")
def chain(model) -> Iterator[tuple[Proxy, Recorder]]:
    """The proxy in front of a recorder in front of the server."""
    with Recorder(model.port) as recorder, Proxy(recorder.port) as proxy:
        yield proxy, recorder


def run(cell: str, sub_lm: dspy.LM, **options: Any) -> dspy.Prediction:
    """Runs one cell of a scripted root whose sub-LM is the real model."""
    with PolicyServer({"root": scripted(Action("As the test wants.", cell))}) as server:
        rlm = RLM("questions: list[str] -> answers: list[str]", sub_lm=sub_lm, **options)
        rlm.set_lm(server.lm("root"))
        return rlm(questions=QUESTIONS)


def usage_of(report: Any) -> Any:
    """The totals of the real model in a run."""
    (found,) = [one for one in report.usage if one.model == f"openai/{NAME}"]
    return found


def grown(recorder: Recorder, before: tuple[int, int, int]) -> tuple[int, ...]:
    """Replies and tokens since the totals were taken."""
    return tuple(now - then for now, then in zip(recorder.totals, before, strict=True))


class TestUsage:
    def test_the_ledger_has_the_servers_own_counts_and_the_proxys_cost(self, chain):
        """Calls and tokens are those of the server behind the proxy, and the cost is the proxy's price for them."""
        proxy, recorder = chain
        before = recorder.totals

        prediction = run(
            "SUBMIT(sub_llm_batched(questions))", proxy.lm(max_tokens=24), max_concurrency=4
        )

        usage = usage_of(prediction.run)
        counted = grown(recorder, before)
        assert (usage.calls, usage.input_tokens, usage.output_tokens) == counted
        assert usage.calls == len(QUESTIONS)
        assert not any(answer.startswith("[ERROR]") for answer in prediction.answers)
        assert usage.cost == pytest.approx(counted[1] * PRICES[0] + counted[2] * PRICES[1])

    def test_a_streamed_run_has_them_too(self, chain):
        """The root's replies arrive in pieces, the run ends whatever they say, and every request is counted."""
        proxy, recorder = chain
        before = recorder.totals
        rlm = RLM("numbers: list[int] -> total: int", max_iterations=1)
        rlm.set_lm(proxy.lm(max_tokens=48))
        streamed = dspy.streamify(rlm)
        pieces: list[Any] = []

        async def read() -> Any:
            async for item in streamed(numbers=[3, 8, 12]):
                if isinstance(item, dspy.Prediction):
                    return item.run
                pieces.append(item)
            raise AssertionError("the stream had no prediction")

        try:
            report = asyncio.run(read())
        except RunFailedError as error:
            report = error.run
        except BaseExceptionGroup as group:
            # DSPy's stream runs in a task group, and raises what ended it within one.
            failed = group.subgroup(RunFailedError)
            while isinstance(failed, BaseExceptionGroup):
                failed = failed.exceptions[0]
            assert isinstance(failed, RunFailedError)
            report = failed.run

        chunks = [piece for piece in pieces if not isinstance(piece, StatusMessage)]
        usage = usage_of(report)
        assert len(chunks) > 1
        assert (usage.calls, usage.input_tokens, usage.output_tokens) == grown(recorder, before)


class TestFailures:
    def test_a_prompt_beyond_the_window_is_an_observation(self, chain):
        """Only that item fails, with the server's reason; the others are answered, and the run submits."""
        proxy, _ = chain
        prediction = run(
            "SUBMIT(sub_llm_batched([questions[0], 'word ' * 9000, questions[1]]))",
            proxy.lm(max_tokens=16),
        )

        first, second, third = prediction.answers
        assert second.startswith("[ERROR]")
        assert "context" in second
        assert not first.startswith("[ERROR]")
        assert not third.startswith("[ERROR]")

    @pytest.mark.parametrize("place", ["root", "sub-LM"])
    def test_a_wrong_key_ends_the_run_with_the_reason(self, chain, place):
        """A proxy without a database says 400 and "No connected db." for it. The key is not in the error's text."""
        proxy, recorder = chain
        before = recorder.totals
        lm = proxy.lm(key=WRONG_KEY, max_tokens=16)
        of_root = RLM("questions: list[str] -> answers: list[str]")
        of_root.set_lm(lm)
        runs = {
            "root": lambda: of_root(questions=QUESTIONS),
            "sub-LM": lambda: run("SUBMIT(sub_llm_batched(questions))", lm),
        }

        with pytest.raises(RunFailedError) as caught:
            runs[place]()

        assert isinstance(caught.value.__cause__, dspy.LMAuthError)
        assert WRONG_KEY not in f"{caught.value} {caught.value.__cause__}"
        assert grown(recorder, before) == (0, 0, 0)

    def test_a_run_out_of_time_frees_the_server_behind_the_proxy(self, model, chain):
        """Requests that a run gives up are cancelled through the proxy, too."""
        with Proxy(model.port) as proxy, contextlib.suppress(RunFailedError):
            run(
                "SUBMIT(sub_llm_batched(['Write a very long story. ' + q for q in questions]))",
                proxy.lm(max_tokens=1_500),
                max_seconds=5,
            )

            until = time.monotonic() + 300
            while model.busy() and time.monotonic() < until:
                time.sleep(0.2)
            assert model.busy() == 0

    def test_a_server_that_is_killed_fails_only_what_it_had_not_answered(self):
        """Answers before the kill are kept; the others are errors in place; the run goes on and submits."""
        with RealServer(tokens=1_024, slots=1) as server, Proxy(server.port) as proxy:

            def kill() -> None:
                while server.counts()[1] < 40:
                    time.sleep(0.05)
                server.kill()

            start_thread(kill, "kill")
            prediction = run(
                "SUBMIT(sub_llm_batched(questions))", proxy.lm(max_tokens=24), max_concurrency=1
            )

        failed = [answer for answer in prediction.answers if answer.startswith("[ERROR]")]
        assert prediction.run.status == "submitted"
        assert 0 < len(failed) < len(QUESTIONS)
        assert prediction.answers.index(failed[0]) == len(QUESTIONS) - len(failed)
