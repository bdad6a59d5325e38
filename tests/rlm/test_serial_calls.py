"""The remark on calls of a sub-LM that a cell makes one after the other."""

from __future__ import annotations

import pytest

from dspy_rlm import replay
from dspy_rlm.testing import fields

REMARK = "times one after the other"


def output_of(play, code, **options):
    """Runs one cell, then submits; returns the cell's output."""
    sub = fields(lambda _: {"a": "yes"}) if "predict" in code else lambda _: "yes"
    rlm, _ = play("q -> answer", code, "SUBMIT('x')", sub=sub, **options)
    return rlm(q="?").run.steps[0].output


@pytest.mark.parametrize(
    ("code", "function"),
    [
        ("for n in range(25): sub_llm(f'{n}')", "sub_llm"),
        ("for n in range(25): predict('n: int -> a: str', n=n)", "predict"),
    ],
    ids=["sub_llm", "predict"],
)
def test_many_in_a_loop(play, code, function):
    """The observation names their number, and the function that runs them at once."""
    note = f"[Note] {function} was called 25 {REMARK}; {function}_batched runs many calls at once."
    assert note in output_of(play, code)


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(19): sub_llm(f'{n}')",
        "sub_llm_batched([f'{n}' for n in range(30)])",
        "import asyncio\nawait asyncio.gather(*(sub_llm.aio(f'{n}') for n in range(30)))",
        "sub_llm.batched([f'{n}' for n in range(30)])",
    ],
    ids=["few", "batch", "gather", "map"],
)
def test_no_remark(play, code):
    """Few calls, and calls at once, get none."""
    assert REMARK not in output_of(play, code)


def test_cells_are_counted_apart(play):
    """A few calls in each of several cells are no loop."""
    code = "for n in range(15): sub_llm(f'{n}')"
    rlm, _ = play("q -> answer", code, code, "SUBMIT('x')", sub=lambda request: "yes")

    assert not [step for step in rlm(q="?").run.steps if REMARK in step.output]


def test_a_replay_has_the_same_remark(play, tmp_path):
    """The remark does not depend on the time that the calls take."""
    journal = tmp_path / "run.jsonl"
    assert REMARK in output_of(play, "for n in range(25): sub_llm(f'{n}')", journal=journal)

    assert replay(journal).same
