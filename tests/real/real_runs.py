"""Runs of a scripted root whose sub-LM is the real model, and checks that hold with and without a proxy before it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import dspy

from benchmarks.real_model.server import NAME, RealServer
from dspy_rlm import RLM, RunFailedError
from dspy_rlm.testing import Action, PolicyServer, scripted
from sandbox_runtime.helpers import start_thread

QUESTIONS = [f"Write one short sentence about the number {number}." for number in range(12)]


def run(cell: str, sub_lm: dspy.LM, **options: Any) -> dspy.Prediction:
    """Runs one cell of a scripted root whose sub-LM is the real model."""
    with PolicyServer({"root": scripted(Action("As the test wants.", cell))}) as server:
        rlm = RLM("questions: list[str] -> answers: list[str]", sub_lm=sub_lm, **options)
        rlm.set_lm(server.lm("root"))
        return rlm(questions=QUESTIONS)


def usage_of(report: Any) -> Any:
    """Returns the totals of the real model in a run."""
    (found,) = [one for one in report.usage if one.model == f"openai/{NAME}"]
    return found


def check_a_prompt_beyond_the_window(sub_lm: dspy.LM) -> None:
    """Checks that only the item fails whose prompt is too long, with the server's reason."""
    cell = "SUBMIT(sub_llm_batched([questions[0], 'word ' * 9000, questions[1]]))"
    first, second, third = run(cell, sub_lm).answers

    assert second.startswith("[ERROR]")
    assert "context" in second
    assert not first.startswith("[ERROR]")
    assert not third.startswith("[ERROR]")


def check_a_run_out_of_time(sub_lm: dspy.LM, server: RealServer) -> None:
    """Checks that the slots of the server are free soon after a run that had no time for its answers."""
    with contextlib.suppress(RunFailedError):
        run(
            "SUBMIT(sub_llm_batched(['Write a very long story. ' + q for q in questions]))",
            sub_lm,
            max_seconds=5,
        )

    until = time.monotonic() + 300
    while server.busy() and time.monotonic() < until:
        time.sleep(0.2)
    assert server.busy() == 0


def run_while_killed(sub_lm: dspy.LM, server: RealServer) -> dspy.Prediction:
    """Runs all questions one by one, kills the server after the first answers, and checks that those are kept."""

    def kill() -> None:
        while server.counts()[1] < 40:
            time.sleep(0.05)
        server.kill()

    start_thread(kill, "kill")
    prediction = run("SUBMIT(sub_llm_batched(questions))", sub_lm, max_concurrency=1)

    failed = [answer for answer in prediction.answers if answer.startswith("[ERROR]")]
    assert prediction.run.status == "submitted"
    assert 0 < len(failed) < len(QUESTIONS)
    assert prediction.answers.index(failed[0]) == len(QUESTIONS) - len(failed)
    return prediction
