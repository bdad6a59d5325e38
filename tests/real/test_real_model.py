"""The engine behind a real llama.cpp server with a model of 135 million parameters: counts, streams, limits, failures.

    python -m benchmarks.real_model.install FOLDER
    DSPY_RLM_REAL_MODEL=FOLDER pytest -m real -n 0 tests/real

The model's answers are of no interest here, and no test looks at one: what is checked holds for any answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from real_runs import (
    QUESTIONS,
    check_a_prompt_beyond_the_window,
    check_a_run_out_of_time,
    run,
    run_while_killed,
    usage_of,
)

from benchmarks.real_model.install import home, is_installed
from benchmarks.real_model.recorder import Recorder
from benchmarks.real_model.server import RealServer
from dspy_rlm import RLM, RunFailedError

pytestmark = [
    pytest.mark.real,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not is_installed(home()),
        reason="The real model is not installed: python -m benchmarks.real_model.install",
    ),
]


class TestUsage:
    def test_the_ledger_has_the_servers_own_counts(self, model):
        """Calls and tokens of a batch are those that the server reports, one by one."""
        with Recorder(model.port) as recorder:
            prediction = run(
                "SUBMIT(sub_llm_batched(questions))", recorder.lm(max_tokens=24), max_concurrency=4
            )

        usage = usage_of(prediction.run)
        assert (usage.calls, usage.input_tokens, usage.output_tokens) == recorder.totals
        assert usage.calls == len(QUESTIONS)
        assert all(prediction.answers)

    def test_the_servers_counter_of_replies_agrees(self, model):
        """Its own metric grows by the tokens of the replies."""
        before = model.counts()[1]
        prediction = run("SUBMIT(sub_llm_batched(questions[:4]))", model.lm(max_tokens=16))

        assert model.counts()[1] - before == usage_of(prediction.run).output_tokens

    def test_an_answer_is_the_same_at_temperature_zero(self, model):
        """So that figures of the benchmark can be repeated."""
        cell = "SUBMIT([sub_llm(q) for q in questions[:3]] + [sub_llm(q) for q in questions[:3]])"
        answers = run(cell, model.lm(max_tokens=16)).answers

        assert answers[:3] == answers[3:]


class TestRoot:
    def test_replies_of_a_model_that_cannot_play_end_the_run_with_a_report(self, model):
        """A model of this size does not write the format: the run ends, every request is counted, nothing hangs."""
        rlm = RLM("numbers: list[int] -> total: int", max_iterations=2, max_llm_calls=4)
        rlm.set_lm(model.lm(max_tokens=48))

        try:
            found = rlm(numbers=[3, 8, 12])
            report = found.run
            assert isinstance(found.total, int)
        except RunFailedError as error:
            report = error.run

        assert report.iterations <= 2
        assert sum(usage.calls for usage in report.usage) >= report.iterations
        assert all(usage.input_tokens for usage in report.usage)

    def test_its_replies_are_streamed(self, model):
        """Pieces arrive before the end, and the stream ends whatever the model writes."""
        program = dspy.Predict("number: int -> sentence: str")
        program.set_lm(model.lm(max_tokens=48))
        streamed = dspy.streamify(
            program, stream_listeners=[dspy.streaming.StreamListener("sentence")]
        )

        async def read() -> list[Any]:
            items = []
            try:
                async for item in streamed(number=7):
                    items.append(item)
            except dspy.AdapterParseError:
                items.append("unreadable")
            return items

        assert asyncio.run(read())


class TestLimits:
    def test_a_prompt_beyond_the_window_is_an_observation(self, model):
        """Only that item fails; the others are answered, and the run submits."""
        check_a_prompt_beyond_the_window(model.lm(max_tokens=16))

    def test_a_run_out_of_time_frees_the_server(self, model):
        """Requests that a run gives up are cancelled: the slots are free soon after, not when the replies are done."""
        check_a_run_out_of_time(model.lm(max_tokens=1_500), model)

    def test_a_server_that_is_killed_fails_only_what_it_had_not_answered(self):
        """Answers before the kill are kept; the others are errors in place; the run goes on and submits."""
        with RealServer(tokens=1_024, slots=1) as server:
            prediction = run_while_killed(server.lm(max_tokens=24), server)

        failed = sum(answer.startswith("[ERROR]") for answer in prediction.answers)
        assert len(prediction.run.sub_calls) >= len(QUESTIONS) - failed
