"""Runs below a run: `sub_rlm`, with a REPL of its own and one budget for all."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from dspy_rlm import TextFile
from dspy_rlm.testing import Action, Fault, asks_for, fields, route, rules, scripted


def script(*codes):
    """A root LM that writes these cells."""
    return scripted(*(Action("", code) for code in codes))


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


def working(*moves, otherwise=None):
    """A sub-LM that plays the root of a sub-run with these moves, and answers other prompts."""
    return route((asks_for("code"), script(*moves)), otherwise=otherwise or fields(lambda _: {}))


class TestSubRuns:
    def test_a_sub_run_has_its_own_repl_and_typed_outputs(self, play):
        """Its inputs are variables there, and nothing of them is in a prompt."""
        secret = "x" * 3000 + "needle" + "y" * 3000
        rlm, server = play(
            "log: str -> answer: list",
            "n = 'of the parent'\n"
            'r = sub_rlm("part: str, marks: set[int] -> at: int, kinds: dict[str, int]", '
            "part=log[1000:], marks={1, 2})\n"
            "SUBMIT([r.at, r.kinds, n])",
            sub=working("n = part.find('needle')", "SUBMIT(n, {type(marks).__name__: len(marks)})"),
        )
        result = rlm(log=secret)

        assert result.answer == [2000, {"set": 2}, "of the parent"]
        assert not any(
            "needle" in exchange.prompt[:4000] for exchange in server.requests_to("root")[:1]
        )
        prompt = server.requests_to("sub")[0].prompt
        assert "Size: 5,006 characters" in prompt
        assert "x" * 2000 not in prompt

    def test_every_turn_of_it_is_on_the_ledger(self, play):
        """Usage and the log tell depths apart; turns count as calls that the code has caused."""
        rlm, _ = play(
            "q -> answer: str",
            'SUBMIT(sub_rlm("q -> a: str", q=q).a)',
            sub=working("x = sub_llm('?')", "SUBMIT(x)", otherwise=rules([], default="found")),
        )
        result = rlm(q="?")
        run = result.run

        assert result.answer == "found"
        assert [(u.model, u.depth, u.calls) for u in run.usage] == [
            ("openai/root", 0, 1),
            ("openai/sub", 1, 3),
        ]
        assert [(c.kind, c.depth) for c in run.sub_calls] == [
            ("action", 1),
            ("sub_llm", 1),
            ("action", 1),
        ]
        assert run.llm_calls == 3

    def test_one_budget_for_the_tree(self, play):
        """A sub-run spends the budget of its parent; a refusal reaches the calling cell."""
        rlm, server = play(
            "q -> answer: str",
            'try:\n    sub_rlm("q -> a: str", q=q)\n'
            "except RuntimeError as error:\n    print(type(error).__name__, error)\n"
            "print(BUDGET()['llm_calls'])",
            "SUBMIT('done')",
            sub=working("1", "2", "3", "SUBMIT('x')"),
            max_llm_calls=3,
        )
        result = rlm(q="?")

        assert "BudgetExceededError 1 sub-LM call(s) asked for, 0 of 3 left" in outputs(result)[0]
        assert outputs(result)[0].endswith("\n0")
        assert len(server.requests_to("sub")) == 3

    @pytest.mark.parametrize("max_depth", [0, 1, 2])
    def test_depth_is_counted_on_the_host(self, play, max_depth):
        """Depth is counted on the host: at the last level `sub_rlm` is in neither the REPL nor the contract."""
        code = "SUBMIT(sub_rlm('q -> n: int', q=q).n + 1 if 'sub_rlm' in globals() else 0)"
        rlm, server = play("q -> n: int", code, sub=working(code), max_depth=max_depth)

        assert rlm(q="?").n == max_depth
        offered = ["sub_rlm(signature" in e.messages[0].text for e in server.requests]
        assert offered == [True] * max_depth + [False]

    def test_tools_are_inherited_or_not(self, play):
        """A sub-run inherits all tools, none, or some; an unknown name is refused with the available ones."""

        def one() -> int:
            return 1

        def two() -> int:
            return 2

        rlm, _ = play(
            "q -> answer: list",
            "f = lambda **options: sub_rlm('q -> names: list[str]', q=q, **options).names\n"
            "print(f(), f(tools=False), f(tools=['two']), f(tools=[one]))\n"
            "try:\n    f(tools=['three'])\nexcept ValueError as error:\n    print(error)",
            "SUBMIT([])",
            sub=working("SUBMIT([n for n in ('one', 'two') if n in globals()])"),
            tools=[one, two],
        )
        message = outputs(rlm(q="?"))[0]

        assert message.startswith("['one', 'two'] [] ['two'] ['one']")
        assert "There is no tool 'three' to give to a sub-run. The tools are: one, two." in message

    def test_functions_of_the_cell_are_given_by_their_source(self, play):
        """`setup` runs first in the sub-run's REPL: functions, classes or text."""
        rlm, _ = play(
            "q -> answer: int",
            "import dataclasses\ndef double(x):\n    return K * x\n\n@dataclasses.dataclass\nclass Box:\n    size = 5",
            "SUBMIT(sub_rlm('q -> n: int', q=q, setup=['K = 2; import dataclasses', double, Box]).n)",
            sub=working("SUBMIT(double(Box.size))"),
        )

        assert rlm(q="?").answer == 10

    @pytest.mark.parametrize(
        ("setup", "told"),
        [
            ("'1/0'", "The setup of the sub-run failed, so it was not started"),
            ("'def f(:'", "SyntaxError"),
            ("'SUBMIT(1)'", "It called SUBMIT"),
            ("lambda x: x", "is not a function with a name"),
            ("abs", "The source of <built-in function abs> is not available"),
            ("5", "The source of 5 is not available"),
        ],
    )
    def test_a_setup_that_fails_costs_no_lm_call(self, play, setup, told):
        """A failing setup costs no LM call, and the calling cell gets the reason."""
        rlm, server = play(
            "q -> answer", f"sub_rlm('q -> n: int', q=q, setup={setup})", "SUBMIT('')"
        )
        result = rlm(q="?")

        assert told in outputs(result)[0]
        assert not server.requests_to("sub")

    def test_a_sub_run_that_finds_nothing_is_extracted(self, play):
        """`max_iterations` is its own; the fallback's outputs are its outputs."""
        rlm, server = play(
            "q -> answer: int",
            "SUBMIT(sub_rlm('q -> n: int', q=q, max_iterations=2).n)",
            sub=working("1", "2", "3", otherwise=fields(lambda _: {"n": 9})),
        )

        assert rlm(q="?").answer == 9
        assert len(server.requests_to("sub")) == 3
        assert "Turn 2 of 2" in server.requests_to("sub")[1].prompt

    def test_a_sub_run_that_fails_is_an_exception_of_the_cell(self, play):
        """A failed sub-run raises in the calling cell, and the parent run continues."""
        rlm, server = play("q -> answer: str", "sub_rlm('q -> n: int', q=q)", "SUBMIT('on')")
        server.fail("sub", Fault(status=400, message="too long"))
        result = rlm(q="?")

        assert result.answer == "on"
        assert "SubCallError: The sub-run failed after 0 step(s)" in outputs(result)[0]
        assert "too long" in outputs(result)[0]

    def test_handles_and_lazy_texts_go_on_by_reference(self, play, tmp_path):
        """A sub-run gets the same file and image objects, without a copy."""
        (tmp_path / "big.log").write_text("a\nneedle\n" * 1000)
        scan = dspy.Image("data:image/png;base64,AAAA")
        arguments = []

        def look(image: dspy.Image) -> int:
            """Looks at an image."""
            arguments.append(image)
            return 3

        rlm, _ = play(
            "log, scan: dspy.Image -> answer: list",
            "r = sub_rlm('log, scan: dspy.Image -> hits: int, kind: str, n: int', log=log, scan=scan)\n"
            "SUBMIT([r.hits, r.kind, r.n])",
            sub=working("SUBMIT(log.count('needle'), repr(scan), look(scan))"),
            tools=[look],
        )
        answer = rlm(log=TextFile(tmp_path / "big.log"), scan=scan).answer

        assert answer == [1000, "<Image handle: png, 3 bytes>", 3]
        assert arguments[0] is scan

    def test_many_sub_runs_at_once(self, play):
        """`sub_rlm.batched` and asyncio; an async caller's loop stays free, and has the async tools."""
        loops = set()

        async def note(n: int) -> int:
            loops.add(asyncio.get_running_loop())
            return n

        rlm, _ = play(
            "q -> answer: list[int]",
            "import asyncio\n"
            "rs = await asyncio.gather(*(sub_rlm.aio('k: int -> n: int', k=k) for k in range(3)))\n"
            "SUBMIT([r.n for r in rs])",
            sub=working("SUBMIT(note(k) * 10)"),
            tools=[note],
        )

        async def main():
            result = await rlm.acall(q="?")
            assert loops == {asyncio.get_running_loop()}
            return result.answer

        assert asyncio.run(main()) == [0, 10, 20]

    def test_sub_runs_leave_no_trace(self, play):
        """An optimizer matches entries of the trace to predictors; those of sub-runs are not its own."""
        rlm, _ = play(
            "q -> n: int", "SUBMIT(sub_rlm('q -> n: int', q=q).n)", sub=working("SUBMIT(1)")
        )
        with dspy.context(trace=[]):
            rlm(q="?")
            trace = list(dspy.settings.trace)

        assert [entry[0] for entry in trace] == [rlm.generate_action]

    def test_rlm_query_is_understood(self, play):
        """`rlm_query` with a prompt alone is a sub-run on that prompt; with inputs it is `sub_rlm`."""
        rlm, _ = play(
            "q -> answer: list",
            "SUBMIT([rlm_query('what is ' + q), rlm_query('q -> answer: str', q='x').answer])",
            sub=working("SUBMIT(prompt if 'prompt' in globals() else q)"),
        )

        assert rlm(q="it").answer == ["what is it", "x"]


class TestCompiled:
    """Sub-runs share the compiled state of their RLM, if they do the same task on a part."""

    @pytest.mark.parametrize(
        ("call", "shares"),
        [
            ("sub_rlm('text -> n: int', text=text, tools=False).n", True),
            ("sub_rlm('text: str -> n: int', text=text, tools=False).n", True),
            ("sub_rlm('text -> n: str', text=text, tools=False).n", False),
            ("sub_rlm('text -> m: int', text=text, tools=False).m", False),
            ("sub_rlm('text, q -> n: int', text=text, q='', tools=False).n", False),
            (
                "sub_rlm('text -> n: int', text=text, tools=False, instructions='Count.').n",
                False,
            ),
        ],
    )
    def test_a_sub_run_with_the_same_fields_has_the_block_and_the_demos(self, play, call, shares):
        """Any other sub-run, and one with `instructions=`, starts from the default block without a task."""

        def look_up(key: str) -> str:
            """Looks up the key."""
            return key

        rlm, server = play(
            "text -> n: int",
            f"SUBMIT(int({call}))",
            sub=scripted(Action("", "SUBMIT(7)"), Action("", "SUBMIT('7')")),
            tools=[look_up],
        )
        action = rlm.generate_action
        action.signature = action.signature.with_instructions(
            action.signature.instructions.replace("Look first:", "Follow PLAN-B.")
        )
        action.demos = [{"repl_history": "none", "reasoning": "r", "code": "DEMO()"}]

        assert rlm(text="x").n == 7
        request = server.requests_to("sub")[0]
        assert ("PLAN-B" in request.messages[0].text) is shares
        assert any("DEMO()" in message.text for message in request.messages) is shares
        assert "look_up" not in request.messages[0].text
