"""`import dspy` in the REPL: modules that the host runs, on the run's own ledger."""

from __future__ import annotations

import pytest

from dspy_rlm.testing import Action, asks_for, fields, route, scripted


def script(*codes):
    """A root LM that writes these cells."""
    return scripted(*(Action("", code) for code in codes))


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


def values(**given):
    return fields(lambda _: given)


class TestModules:
    def test_predict_and_chain_of_thought(self, play):
        """Typed outputs by attribute; the thought is one of them."""
        rlm, _ = play(
            "q -> answer: list",
            "import dspy\n"
            "a = dspy.Predict('text -> n: int')(text=q)\n"
            "b = dspy.ChainOfThought('text -> n: int')(text=q)\n"
            "SUBMIT([a.n, b.n, b.reasoning])",
            sub=values(n=4, reasoning="because"),
        )
        result = rlm(q="?")

        assert result.answer == [4, 4, "because"]
        assert [c.kind for c in result.run.sub_calls] == ["dspy.Predict", "dspy.ChainOfThought"]

    def test_signatures_as_classes_and_modules_of_ones_own(self, play):
        """As one writes DSPy: a Signature with fields, a Module with predictors."""
        rlm, server = play(
            "q -> answer: list",
            "import dspy, datetime\n"
            "class Read(dspy.Signature):\n"
            '    """Read the date."""\n'
            "    text: str = dspy.InputField(desc='a letter')\n"
            "    day: datetime.date = dspy.OutputField()\n"
            "    n: int = dspy.OutputField(desc='of pages', ge=1)\n"
            "class Reader(dspy.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.read = dspy.Predict(Read, temperature=0.3)\n"
            "    def forward(self, text):\n        r = self.read(text=text)\n"
            "        return dspy.Prediction(year=r.day.year, n=r.n)\n"
            "p = Reader()(text=q)\n"
            "s = dspy.Predict(dspy.Signature('text -> n: int', 'Count them.'))(text=q)\n"
            "SUBMIT([p.year, p.n, s.n])",
            sub=values(day="2026-03-04", n=2),
        )

        assert rlm(q="?").answer == [2026, 2, 2]
        first, second = server.requests_to("sub")
        assert "Read the date." in first.messages[0].text
        assert "of pages" in first.messages[0].text
        assert first.request.raw["temperature"] == 0.3
        assert "Count them." in second.messages[0].text

    def test_react_uses_the_runs_tools(self, play):
        """By name, on the host; every call of it is counted."""
        asked = []

        def search(query: str) -> str:
            """Looks up."""
            asked.append(query)
            return "42"

        steps = route(
            (
                lambda r: asks_for("next_tool_name")(r) and not asked,
                values(next_thought="t", next_tool_name="search", next_tool_args='{"query": "x"}'),
            ),
            (
                asks_for("next_tool_name"),
                values(next_thought="t", next_tool_name="finish", next_tool_args="{}"),
            ),
            otherwise=values(reasoning="r", answer="42"),
        )
        rlm, server = play(
            "q -> answer: int",
            "import dspy\nSUBMIT(dspy.ReAct('q -> answer: int', tools=[search])(q=q).answer)",
            sub=steps,
            tools=[search],
        )
        result = rlm(q="?")

        assert (result.answer, asked) == (42, ["x"])
        assert result.run.llm_calls == len(server.requests_to("sub")) == 3

    def test_rlm_is_a_sub_run(self, play):
        """With a REPL of its own, and only where a level is left."""
        code = "import dspy\nSUBMIT(dspy.RLM('text -> n: int', max_iters=3)(text=q).n)"
        rlm, _ = play(
            "q -> answer: int", code, sub=route((asks_for("code"), script("SUBMIT(len(text))")))
        )
        assert rlm(q="1234").answer == 4

        rlm, _ = play("q -> answer: int", code, "SUBMIT(0)", max_depth=0)
        assert "no level is left below this one (max_depth)" in outputs(rlm(q=""))[0]

    @pytest.mark.filterwarnings("ignore:ProgramOfThought is deprecated")
    def test_program_of_thought_runs_in_our_sandbox(self, play):
        """What it executes has no more rights than a cell."""
        rlm, _ = play(
            "q -> answer: int",
            "import dspy\nSUBMIT(dspy.ProgramOfThought('q -> answer: int')(q=q).answer)",
            sub=values(
                reasoning="r", generated_code="```python\nSUBMIT({'answer': 6 * 7})\n```", answer=42
            ),
        )

        assert rlm(q="?").answer == 42

    @pytest.mark.filterwarnings("ignore:ProgramOfThought is deprecated")
    def test_program_of_thought_corrects_its_code(self, play):
        """What the sandbox says of a mistake goes back to the sub-LM."""
        rlm, server = play(
            "q -> answer: int",
            "import dspy\nSUBMIT(dspy.ProgramOfThought('q -> answer: int')(q=q).answer)",
            sub=route(
                (
                    lambda r: asks_for("generated_code")(r) and "ZeroDivisionError" in r.prompt,
                    values(reasoning="r", generated_code="```python\nSUBMIT({'answer': 42})\n```"),
                ),
                (asks_for("generated_code"), values(reasoning="r", generated_code="x = 1\n1/0")),
                otherwise=values(reasoning="r", answer=42),
            ),
        )
        result = rlm(q="?")

        assert result.answer == 42
        assert result.run.llm_calls == len(server.requests_to("sub")) == 3
        assert "42" in server.requests_to("sub")[-1].prompt

    @pytest.mark.filterwarnings("ignore:(CodeAct|ProgramOfThought) is deprecated")
    def test_code_act_calls_the_runs_tools(self, play):
        """They run on the host, where they belong: closures, methods and coroutines among them."""
        asked = []

        def search(query: str) -> str:
            """Looks up."""
            asked.append(query)
            return "42"

        async def shout(text: str) -> str:
            return text.upper()

        acts = route(
            (
                lambda r: asks_for("generated_code")(r) and not asked,
                values(
                    generated_code="found = search('x')\nprint(shout('so ') + found)",
                    finished=False,
                ),
            ),
            (asks_for("generated_code"), values(generated_code="print(found)", finished=True)),
            otherwise=values(reasoning="r", answer=42),
        )
        rlm, server = play(
            "q -> answer: int",
            "import dspy\nSUBMIT(dspy.CodeAct('q -> answer: int', tools=[search, shout])(q=q).answer)",
            sub=acts,
            tools=[search, shout],
        )
        result = rlm(q="?")

        first, second, _ = server.requests_to("sub")
        assert (result.answer, asked) == (42, ["x"])
        assert "search(query: str) -> str" in first.messages[0].text
        assert "Looks up." in first.messages[0].text
        assert "SO 42" in second.prompt
        assert result.run.llm_calls == 3

    def test_react_v2_submits_by_a_tool_call(self, play):
        """With the run's tools beside it; every call of it is counted."""
        asked = []

        def search(query: str) -> str:
            """Looks up."""
            asked.append(query)
            return "42"

        def calls(name, **args):
            return values(
                next_thought="t", tool_calls={"tool_calls": [{"name": name, "args": args}]}
            )

        rlm, server = play(
            "q -> answer: int",
            "import dspy\nSUBMIT(dspy.ReActV2('q -> answer: int', tools=[search])(q=q).answer)",
            sub=route(
                (lambda _: not asked, calls("search", query="x")),
                otherwise=calls("submit", answer=42),
            ),
            tools=[search],
        )
        result = rlm(q="?")

        assert (result.answer, asked) == (42, ["x"])
        assert result.run.llm_calls == len(server.requests_to("sub")) == 2
        assert {c.kind for c in result.run.sub_calls} == {"dspy.ReActV2"}

    @pytest.mark.parametrize(
        ("code", "told"),
        [
            ("dspy.Predict('q -> a', api_base='http://evil')(q=q)", "cannot take 'api_base'"),
            ("dspy.Predict('q -> a', model='big')(q=q)", "There is no model 'big'"),
            ("dspy.ReAct('q -> a', tools=[len])(q=q)", "'len' is no tool of this run"),
            ("dspy.RLM('q -> a', interpreter_factory=1)(q=q)", "cannot take 'interpreter_factory'"),
            ("dspy.LM('x')", "has no attribute 'LM'"),
        ],
    )
    def test_what_is_not_for_cells_is_refused(self, play, code, told):
        """Addresses, keys, interpreters and functions of the REPL."""
        rlm, server = play("q -> answer", f"import dspy\n{code}", "SUBMIT('')")

        assert told in outputs(rlm(q="?"))[0]
        assert not server.requests_to("sub")
