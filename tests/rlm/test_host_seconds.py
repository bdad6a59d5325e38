"""The host's processor time that the functions of a run's cells take: ours count for the cell, the user's and the LMs' do not."""

from __future__ import annotations

import time
from typing import Any

import dspy
import pydantic
import pytest

from sandbox_runtime import Limits

MOST = 0.2

# Far more repetitions than `MOST` allows.
UNTIL_REFUSED = """
problem = "never refused"
try:
    for i in range(100_000):
        try:
            {call}
        except TimeoutError:
            raise
        except Exception:
            pass
except TimeoutError as error:
    problem = str(error)
SUBMIT(problem)
"""

CALLS = {
    "a signature": "predict('a: ' + 'list[' * 40 + 'int' + ']' * 40 + f' -> b{i}: no{i}', a=1)",
    "inputs of a sub-call": "predict('a: int -> b', a=['x'] * 20_000)",
    "rows of a batch": "predict_batched('a: int -> b', ['x'] * 20_000)",
    "prompts of a batch": "sub_llm_batched([1] * 20_000)",
    "arguments of a tool": "typed([{'name': 'x'}] * 5_000)",
    "arguments of a tool of JSON data": "counted(list(range(900)), 'x')",
}


class Item(pydantic.BaseModel):
    """An argument that Pydantic builds."""

    name: str
    size: int


def typed(items: list[Item]) -> int:
    """Takes records."""
    return len(items)


def counted(numbers: list[int], times: int) -> int:
    """Takes numbers."""
    return sum(numbers) * times


def burn(seconds: float) -> str:
    """Takes so much processor time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return "done"


def burning(count: int) -> Any:
    """Yields items, each of which takes time."""
    for _ in range(count):
        yield burn(MOST)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_what_our_functions_do_counts(play, call):
    """A cell cannot take the host for ever with calls that are refused, and cost nothing else."""
    rlm, _ = play(
        "q -> answer",
        UNTIL_REFUSED.format(call=call),
        tools=[typed, counted],
        limits=Limits(host_seconds=MOST),
        max_iterations=1,
    )

    result = rlm(q="?")

    assert "Limits.host_seconds" in result.answer


def test_what_the_users_functions_do_does_not_count(play):
    """A tool takes the time that it takes; so do the items of its iterator."""
    rlm, _ = play(
        "q -> answer",
        f"for _ in range(3): burn({MOST})\nSUBMIT(' '.join(burning(3)))",
        tools=[burn, burning],
        limits=Limits(host_seconds=MOST),
        max_iterations=1,
    )

    assert rlm(q="?").answer == "done done done"


def test_refused_rows_of_a_batch_count(play):
    """Rows with a large shared input that the budget refuses are prepared in threads of their own, and cost nothing else."""
    rlm, server = play(
        "q -> answer",
        "big = 'word ' * 200_000\n"
        + UNTIL_REFUSED.format(
            call="predict_batched('a, b -> c', [{'a': f'{i} {n}'} for n in range(8)], b=big)"
        ),
        limits=Limits(host_seconds=MOST),
        max_tokens=100_000,
        max_iterations=1,
    )

    assert "Limits.host_seconds" in rlm(q="?").answer
    assert not server.requests_to("sub")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("limits", [{}, {"call_seconds": 60}], ids=["plain", "timed"])
@pytest.mark.parametrize(
    "call", ["predict.batched(items)", "[await c for c in calls()]"], ids=["batched", "awaited"]
)
def test_items_of_one_batch_are_bounded(play, limits, call):
    """One call with many items is checked before each of them."""
    code = f"""
items = ['a: ' + 'list[' * 40 + 'int' + ']' * 40 + f' -> b{{i}}: no{{i}}' for i in range(800)]
def calls():
    started = [asyncio.ensure_future(predict.aio(item)) for item in items]
    return [settled(one) for one in started]
async def settled(one):
    try:
        return await one
    except Exception as error:
        return error
import asyncio
results = {call}
SUBMIT(str(sum(isinstance(one, TimeoutError) for one in results)))
"""
    rlm, _ = play("q -> answer", code, limits=Limits(host_seconds=MOST, **limits), max_iterations=1)

    assert int(rlm(q="?").answer) > 0


class ComputingLM(dspy.utils.DummyLM):
    """An LM that computes in the thread that calls it, as one in this process does."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Answers after some time."""
        burn(MOST)
        return super().__call__(*args, **options)


def test_an_lm_does_not_count(play):
    """The time of sub-LMs is bounded by their number."""
    rlm, _ = play(
        "q -> answer",
        "answers = [predict('n: int -> answer', n=n).answer for n in range(3)]\nSUBMIT(' '.join(answers))",
        sub_lm=ComputingLM([{"answer": "computed"}] * 3),
        limits=Limits(host_seconds=MOST),
        max_iterations=1,
    )

    assert rlm(q="?").answer == "computed computed computed"
