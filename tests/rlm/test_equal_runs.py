"""Equal runs have equal prompts, so DSPy's cache answers all of the second one."""

from __future__ import annotations

import uuid
from typing import Any

import dspy
import pytest

from dspy_rlm import RLM, RunFailedError, TextFile
from dspy_rlm.testing import Action, PolicyServer, policy


@policy
def ask_and_submit(task):
    """Four turns: two with sub-calls, one that prints the budget, and one that submits."""
    yield Action("Look.", "print(len(log))\nnumber = log.count('\\n')")
    yield Action(
        "Ask.", "print(sub_llm_batched([f'{question} {n} ' + 'word ' * 200 for n in range(4)]))"
    )
    yield Action("Ask again.", "print(sub_llm(question), {**BUDGET(), 'seconds': 0})")
    yield Action("Done.", "SUBMIT(question)")


@pytest.fixture
def server():
    """A root LM and a sub-LM whose prices are in DSPy's table."""
    models = {
        "gpt-4o-mini": ask_and_submit,
        "gpt-4o": lambda request: f"About {request.prompt[:9]}",
    }
    with PolicyServer(models) as server:
        yield server


def run(server: PolicyServer, question: str, kept: Any, log: Any = "a\nb", **limits: Any) -> Any:
    """Runs once, with DSPy's cache, and returns the prediction."""
    with dspy.context(lm=server.lm("gpt-4o-mini", cache=True)):
        rlm = RLM(
            "log, question -> answer",
            sub_lm=server.lm("gpt-4o", cache=True),
            pool=kept,
            **limits,
        )
        return rlm(log=log, question=question)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_tokens": 60_000},
        {"max_cost": 0.04},
        {"max_seconds": 600.0},
        {"max_tokens": 60_000, "max_cost": 0.04, "max_seconds": 600.0, "max_errors": 3},
    ],
)
def test_the_second_run_sends_no_request(server, kept, limits):
    """The remaining budget is the same in the prompt whether a call was cached or not."""
    question = uuid.uuid4().hex

    first = run(server, question, kept, **limits).run
    sent = len(server.requests)
    second = run(server, question, kept, **limits).run

    assert sent == 9
    assert len(server.requests) == sent
    assert first.trajectory == second.trajectory
    assert second.cost == 0
    assert (first.llm_calls, second.llm_calls) == (5, 0)


def test_a_budget_in_the_prompt_counts_cached_calls(server, kept):
    """The prompt of the last turn says the same in both runs: five calls of the default 50 are used."""
    question = uuid.uuid4().hex
    run(server, question, kept)
    last = server.requests[-1].request.prompt
    run(server, question, kept)

    assert "Turn 4 of 20; 45 sub-LM prompts left" in last


def test_a_file_is_described_alike_before_and_after_it_was_read(server, kept, tmp_path):
    """A run counts the characters of a lazy text; the next run's prompt does not mention them."""
    path = tmp_path / "log.txt"
    path.write_text("größer\n" * 1000, encoding="utf-8")
    log, question = TextFile(path), uuid.uuid4().hex

    run(server, question, kept, log)
    sent = len(server.requests)
    run(server, question, kept, log)

    assert len(server.requests) == sent


def test_the_first_turn_that_does_not_fit_is_explained_to_the_user(server, kept):
    """The error has no advice for the LM, which was never called, but names the limit to raise."""
    with pytest.raises(RunFailedError) as caught:
        run(server, "q", kept, max_tokens=10)

    assert "raise max_tokens" in str(caught.value)
    assert "SUBMIT" not in str(caught.value)
    assert server.requests == []


def test_a_prompt_that_the_run_has_asked_before_is_free(kept):
    """A second batch of the same prompts takes nothing of the budget, in the first run and in an equal one."""
    question = uuid.uuid4().hex

    @policy
    def ask_twice(task):
        for _ in range(2):
            yield Action(
                "Ask.", "sub_llm_batched([question, question + '2'])\nBUDGET()['llm_calls']"
            )
        yield Action("Done.", "SUBMIT(question)")

    models = {"gpt-4o-mini": ask_twice, "gpt-4o": lambda request: "yes"}
    with PolicyServer(models) as server:
        for _ in range(2):
            steps = run(server, question, kept).run.steps
            assert [step.output[:2] for step in steps[:2]] == ["48", "48"]
        assert len(server.requests_to("gpt-4o")) == 2
