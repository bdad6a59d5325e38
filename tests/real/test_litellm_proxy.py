"""The engine behind LiteLLM's proxy, with the real model behind that: counts, cost, streams, limits, failures.

    python -m benchmarks.real_model.install FOLDER
    python -m benchmarks.real_model.proxy PROXY
    DSPY_RLM_REAL_MODEL=FOLDER DSPY_RLM_LITELLM_PROXY=PROXY pytest -m real -n 0 tests/real

No test looks at what the model says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.streaming import StatusMessage
from real_runs import (
    QUESTIONS,
    check_a_prompt_beyond_the_window,
    check_a_run_out_of_time,
    run,
    run_while_killed,
    usage_of,
)

from benchmarks.real_model.install import home, is_installed
from benchmarks.real_model.proxy import PRICES, Proxy, command_of
from benchmarks.real_model.proxy import home as proxy_home
from benchmarks.real_model.recorder import Recorder
from benchmarks.real_model.server import RealServer
from dspy_rlm import RLM, RunFailedError

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


@pytest.fixture(scope="module")
def chain(model) -> Iterator[tuple[Proxy, Recorder]]:
    """The proxy in front of a recorder in front of the server."""
    with Recorder(model.port) as recorder, Proxy(recorder.port) as proxy:
        yield proxy, recorder


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
        check_a_prompt_beyond_the_window(proxy.lm(max_tokens=16))

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
        with Proxy(model.port) as proxy:
            check_a_run_out_of_time(proxy.lm(max_tokens=1_500), model)

    def test_a_server_that_is_killed_fails_only_what_it_had_not_answered(self):
        """Answers before the kill are kept; the others are errors in place; the run goes on and submits."""
        with RealServer(tokens=1_024, slots=1) as server, Proxy(server.port) as proxy:
            run_while_killed(proxy.lm(max_tokens=24), server)
