"""Runs in the interpreters of others: Monty, a Rust interpreter of a part of Python, and DSPy's local one."""

from __future__ import annotations

import dspy
import pytest
from dspy_monty_interpreter import MontyInterpreter

from dspy_rlm.testing import asks_for, fields, route

INTERPRETERS = [
    pytest.param(MontyInterpreter, id="Monty"),
    pytest.param(MontyInterpreter.factory(request_timeout=30.0), id="a factory of Monty's"),
    pytest.param(dspy.LocalInterpreter, id="local"),
]


def shout(word: str) -> str:
    """Returns a word in capitals."""
    return word.upper()


sub = route(
    (asks_for("size"), fields(lambda _given: {"size": 3})), otherwise=lambda r: f"<{r.prompt}>"
)


@pytest.mark.parametrize("factory", INTERPRETERS)
class TestOtherInterpreters:
    def test_a_whole_run(self, play, factory):
        """Inputs, state between cells, sub-calls, typed calls, tools, errors and SUBMIT work."""
        rlm, _ = play(
            "text, scale: int -> answer: list[str], n: int",
            "words = text.split()\nprint(len(words), scale)",
            "answers = sub_llm_batched(words)\nprint(answers, sub_llm('one'))",
            "size = predict('word -> size: int', word='abc')\nprint(size['size'])",
            "print(shout(word=words[0]), shout('b'))",
            "1 / 0",
            "SUBMIT(answer=answers, n=size['size'] * scale)",
            sub=sub,
            tools=[shout],
            interpreter_factory=factory,
        )

        prediction = rlm(text="a b c", scale=2)

        assert (prediction.answer, prediction.n) == (["<a>", "<b>", "<c>"], 6)
        outputs = [step.output.strip() for step in prediction.run.steps]
        assert outputs[:4] == ["3 2", "['<a>', '<b>', '<c>'] <one>", "3", "A B"]
        assert "ZeroDivisionError" in outputs[4]

    def test_a_field_with_the_name_of_the_parameter(self, play, factory):
        """An input that is called `inputs`, as the parameter of `predict`, is that input."""
        rlm, server = play(
            "q -> n: int", "r = predict('inputs: dict -> size: int', inputs={'a': 1})", "SUBMIT(n=r['size'])",
            sub=sub, interpreter_factory=factory,
        )  # fmt: skip

        assert rlm(q="x").n == 3
        assert '{"a": 1}' in next(e.prompt for e in server.requests if e.model == "sub")


def test_the_prompt_says_what_monty_lacks(play):
    """The interpreter's own description of itself is in the prompt, so that no turn is lost to a missing module."""
    rlm, server = play("q -> n: int", "SUBMIT(n=1)", interpreter_factory=MontyInterpreter)

    rlm(q="x")

    assert "Python runs in Monty" in server.requests[0].request.system
