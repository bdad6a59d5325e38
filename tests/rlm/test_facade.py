"""`import dspy` in the REPL: modules that the host runs, on the run's own ledger."""

from __future__ import annotations

import threading

import pytest
from thrifty_pool import ThriftyPool

from dspy_rlm import Limits
from dspy_rlm.testing import Action, asks_for, fields, route, scripted


def script(*codes):
    """A root LM that writes these cells."""
    return scripted(*(Action("", code) for code in codes))


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


def values(**fields_of_reply):
    return fields(lambda _: fields_of_reply)


class TestModules:
    def test_predict_and_chain_of_thought(self, play):
        """Both modules return typed outputs as attributes; ChainOfThought also returns its reasoning."""
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
        """Cells can define DSPy classes: a Signature with fields, a Module with predictors."""
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
        """`ReAct` calls the run's tools by name on the host, and each of its calls is counted."""
        queries = []

        def search(query: str) -> str:
            """Looks a text up."""
            queries.append(query)
            return "42"

        steps = route(
            (
                lambda r: asks_for("next_tool_name")(r) and not queries,
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

        assert (result.answer, queries) == (42, ["x"])
        assert result.run.llm_calls == len(server.requests_to("sub")) == 3

    def test_rlm_is_a_sub_run(self, play):
        """`dspy.RLM` in a cell is a sub-run with its own REPL, if a level is left."""
        code = "import dspy\nSUBMIT(dspy.RLM('text -> n: int', max_iters=3)(text=q).n)"
        rlm, _ = play(
            "q -> answer: int", code, sub=route((asks_for("code"), script("SUBMIT(len(text))")))
        )
        assert rlm(q="1234").answer == 4

        rlm, _ = play("q -> answer: int", code, "SUBMIT(0)", max_depth=0)
        assert "no level is left below this one (max_depth)" in outputs(rlm(q=""))[0]

    @pytest.mark.filterwarnings("ignore:ProgramOfThought is deprecated")
    def test_program_of_thought_runs_in_our_sandbox(self, play):
        """The code of `ProgramOfThought` has no more permissions than a cell."""
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
        """The sandbox's error message goes back to the sub-LM."""
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
        """CodeAct calls the run's tools on the host, including closures, methods and coroutines."""
        queries = []

        def search(query: str) -> str:
            """Looks a text up."""
            queries.append(query)
            return "42"

        async def shout(text: str) -> str:
            return text.upper()

        acts = route(
            (
                lambda r: asks_for("generated_code")(r) and not queries,
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
        assert (result.answer, queries) == (42, ["x"])
        assert "search(query: str) -> str" in first.messages[0].text
        assert "Looks a text up." in first.messages[0].text
        assert "SO 42" in second.prompt
        assert result.run.llm_calls == 3

    def test_react_v2_submits_by_a_tool_call(self, play):
        """`ReActV2` submits by a tool call, has the run's tools, and each of its calls is counted."""
        queries = []

        def search(query: str) -> str:
            """Looks a text up."""
            queries.append(query)
            return "42"

        def calls(name, **args):
            return values(
                next_thought="t", tool_calls={"tool_calls": [{"name": name, "args": args}]}
            )

        rlm, server = play(
            "q -> answer: int",
            "import dspy\nSUBMIT(dspy.ReActV2('q -> answer: int', tools=[search])(q=q).answer)",
            sub=route(
                (lambda _: not queries, calls("search", query="x")),
                otherwise=calls("submit", answer=42),
            ),
            tools=[search],
        )
        result = rlm(q="?")

        assert (result.answer, queries) == (42, ["x"])
        assert result.run.llm_calls == len(server.requests_to("sub")) == 2
        assert {c.kind for c in result.run.sub_calls} == {"dspy.ReActV2"}

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("dspy.Predict('q -> a', api_base='http://evil')(q=q)", "cannot take 'api_base'"),
            ("dspy.Predict('q -> a', model='big')(q=q)", "There is no model 'big'"),
            ("dspy.ReAct('q -> a', tools=[len])(q=q)", "'len' is no tool of this run"),
            ("dspy.RLM('q -> a', interpreter_factory=1)(q=q)", "cannot take 'interpreter_factory'"),
            ("dspy.LM('x')", "has no attribute 'LM'"),
        ],
    )
    def test_what_is_not_for_cells_is_refused(self, play, code, message):
        """Cells cannot pass addresses, keys, interpreters or functions of the REPL."""
        rlm, server = play("q -> answer", f"import dspy\n{code}", "SUBMIT('')")

        assert message in outputs(rlm(q="?"))[0]
        assert not server.requests_to("sub")


def codes(code, answer=42):
    """A sub-LM that runs this code, and then replies with this answer."""
    return values(
        reasoning="r", generated_code=f"```python\n{code}\n```", finished=True, answer=answer
    )


@pytest.mark.filterwarnings("ignore:(CodeAct|ProgramOfThought) is deprecated")
class TestSandboxes:
    """Modules that run code have their own sandbox, with all limits of the run."""

    @pytest.fixture
    def pool(self):
        with_room_for_one = ThriftyPool(max_sessions=1)
        with_room_for_one.queue.stall_seconds = 10_000  # nobody is let in because nothing moves
        yield with_room_for_one
        assert with_room_for_one.queue.held == with_room_for_one.queue.waiting == 0
        with_room_for_one.close()

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("kind", ["ProgramOfThought", "CodeAct"])
    def test_they_have_the_limits_of_the_run(self, play, kind):
        """The run's resource limits also apply to the code of a sub-LM."""
        options = ", tools=[]" if kind == "CodeAct" else ""
        code = "import sys\nSUBMIT({'answer': len(bytearray(900 * 2**20))})"
        rlm, server = play(
            "q -> answer",
            f"import dspy\ndspy.{kind}('q -> answer: int', max_iters=2{options})(q=q)",
            "SUBMIT('')",
            sub=codes(code),
            limits=Limits(memory_bytes=256 * 2**20),
        )
        rlm(q="?")
        prompts = "".join(exchange.prompt for exchange in server.requests_to("sub"))

        assert "MemoryError" in prompts
        assert "943718400" not in prompts

    def test_they_come_from_the_pool_of_the_run(self, play, pool, deno_children):
        """Of three concurrent modules one has a sandbox at a time, besides that of the run."""
        before, most, over = deno_children(), [0], threading.Event()
        rlm, _ = play(
            "q -> answer: list[int]",
            "import asyncio, dspy\n"
            "made = [dspy.ProgramOfThought('q -> answer: int') for _ in range(3)]\n"
            "rs = await asyncio.gather(*(each.acall(q=q) for each in made))\n"
            "SUBMIT([r.answer for r in rs])",
            sub=codes("SUBMIT({'answer': 6 * 7})"),
            pool=pool,
        )

        def watch():
            while not over.wait(0.02):
                most[0] = max(most[0], len(deno_children() - before), pool.queue.held)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            result = rlm(q="?")
        finally:
            over.set()
            watcher.join()

        assert result.answer == [42] * 3
        assert result.run.llm_calls == 6
        assert most[0] <= 2 + 1  # the run, one below it; one that ends

    @pytest.mark.nightly  # waits for several sandboxes
    def test_a_run_that_a_tool_of_theirs_starts_does_not_wait_for_them(self, play, pool):
        """A run started by a module's tool has a child slot of the module's, so it cannot deadlock."""
        inner, server = play("n: int -> m: int", "SUBMIT(n + 1)", pool=pool)
        inner.set_lm(server.lm("root"))

        def ask(n: int) -> int:
            """Runs another RLM."""
            return inner(n=n).m

        outer, _ = play(
            "q -> answer: int",
            "import dspy\nSUBMIT(dspy.CodeAct('q -> answer: int', tools=[ask])(q=q).answer)",
            sub=codes("print(ask(6))"),
            tools=[ask],
            pool=pool,
        )

        assert outer(q="?").answer == 42

    @pytest.mark.parametrize("kind", ["ProgramOfThought", "CodeAct"])
    def test_they_are_a_level(self, play, kind):
        """Without a level left, no sandbox is opened, and the cell gets an error."""
        rlm, server = play(
            "q -> answer",
            f"import dspy\ndspy.{kind}('q -> answer')(q=q)",
            "SUBMIT('')",
            max_depth=0,
        )

        assert f"dspy.{kind} cannot open a sandbox here" in outputs(rlm(q=""))[0]
        assert not server.requests_to("sub")

    def test_each_is_charged(self, play, deno_children):
        """Each sandbox is charged; without a call left none is opened and no LM is called."""
        rlm, server = play(
            "q -> answer: list",
            "import dspy\n"
            "told = []\n"
            "for _ in range(3):\n"
            "    try: dspy.ProgramOfThought('q -> answer: int')(q=q)\n"
            "    except Exception as error: told.append(type(error).__name__)\n"
            "SUBMIT(told)",
            sub=codes("SUBMIT({'answer': 1})"),
            max_llm_calls=2,
        )
        result = rlm(q="?")

        assert result.answer == ["BudgetExceededError"] * 2
        assert result.run.llm_calls == len(server.requests_to("sub")) == 2

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        "code", ["1/0", "import os; os._exit(1)", "import ctypes; ctypes.string_at(0)"]
    )
    def test_they_are_closed_on_every_path(self, play, pool, code):
        """The pool slot and the run's own slot (one of four) are free again, whatever the code did to its sandbox."""
        rlm, _ = play(
            "q -> answer: str",
            "import dspy\n"
            "for _ in range(5):\n"
            "    try: dspy.ProgramOfThought('q -> answer: int', max_iters=1)(q=q)\n"
            "    except Exception as error: pass\n"
            "SUBMIT('on')",
            sub=codes(code),
            pool=pool,
        )

        assert rlm(q="?").answer == "on"


class TestEndedCells:
    """A module goes on in its thread after its cell has ended, but does nothing more for it."""

    @pytest.mark.filterwarnings("ignore:CodeAct is deprecated")
    @pytest.mark.parametrize("kind", ["ReAct", "CodeAct"])
    def test_no_tool_is_called_after_the_cell(self, play, kind):
        """A reply of the sub-LM that comes after the end of the cell starts no tool call and opens no sandbox."""
        requested, may_reply, calls = threading.Event(), threading.Event(), []

        async def look(x: str) -> str:
            """Looks something up."""
            calls.append(x)
            return "found"

        def wait_for_request() -> bool:
            """Returns once the sub-LM has the request."""
            return requested.wait(30)

        def let_it_reply() -> None:
            """Lets the sub-LM reply."""
            may_reply.set()

        def late(request):
            requested.set()
            assert may_reply.wait(30)
            return values(
                next_thought="t",
                next_tool_name="look",
                next_tool_args='{"x": "1"}',
                generated_code="print(look('1'))",
                finished=False,
            )(request)

        rlm, server = play(
            "q -> answer: bool",
            f"import asyncio, dspy\nmodule = dspy.{kind}('q -> a', tools=[look])\n"
            "task = asyncio.ensure_future(module.acall(q=q))\n"
            "await asyncio.sleep(0)\nready = wait_for_request()",
            "let_it_reply()\nawait asyncio.sleep(1)\nSUBMIT(ready)",
            sub=late,
            tools=[look, wait_for_request, let_it_reply],
        )

        assert rlm(q="?").answer is True
        assert calls == []
        assert len(server.requests_to("sub")) == 1

    def test_tools_that_are_coroutine_functions_are_called_while_it_runs(self, play):
        """The check before each call keeps coroutine functions usable in `ReAct`."""
        calls = []

        async def look(x: str) -> str:
            """Looks something up."""
            calls.append(x)
            return "found"

        rlm, _ = play(
            "q -> answer",
            "import dspy\nSUBMIT(dspy.ReAct('q -> answer', tools=[look])(q=q).answer)",
            sub=route(
                (
                    lambda r: asks_for("next_tool_name")(r) and not calls,
                    values(next_thought="t", next_tool_name="look", next_tool_args='{"x": "1"}'),
                ),
                (
                    asks_for("next_tool_name"),
                    values(next_thought="t", next_tool_name="finish", next_tool_args="{}"),
                ),
                otherwise=values(reasoning="r", answer="42"),
            ),
            tools=[look],
        )

        assert (rlm(q="?").answer, calls) == ("42", ["1"])
