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

        assert (
            "BudgetExceededError The sub-run ended after 2 turns without outputs: the prompts of the run are "
            "used up (max_llm_calls=3)."
        ) in outputs(result)[0]
        assert outputs(result)[0].endswith("\n0")
        assert len(server.requests_to("sub")) == 3  # two turns, and the extraction

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
        ("setup", "error_text"),
        [
            ("'1/0'", "The setup of the sub-run failed, so it was not started"),
            ("'def f(:'", "SyntaxError"),
            ("'SUBMIT(1)'", "It called SUBMIT"),
            ("lambda x: x", "is not a function with a name"),
            ("abs", "The source of <built-in function abs> is not available"),
            ("5", "The source of 5 is not available"),
        ],
    )
    def test_a_setup_that_fails_costs_no_lm_call(self, play, setup, error_text):
        """A failing setup costs no LM call, and the calling cell gets the reason."""
        rlm, server = play(
            "q -> answer", f"sub_rlm('q -> n: int', q=q, setup={setup})", "SUBMIT('')"
        )
        result = rlm(q="?")

        assert error_text in outputs(result)[0]
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
        assert "SubCallError: The sub-run failed after 0 turns" in outputs(result)[0]
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


def every(*moves, extracted=None):
    """A sub-LM that plays each of its sub-runs by these moves, by the number of the turn in its prompt."""
    actions = [script(move) for move in moves]

    def play(request):
        if not asks_for("code")(request):
            return fields(lambda _: extracted or {})(request)
        turn = int(request.prompt.rpartition("Turn ")[2].split()[0])
        return script(moves[turn - 1])(request) if turn <= len(actions) else script("1")(request)

    return play


class TestBudgetsOfSubRuns:
    def test_the_work_of_a_sub_run_is_extracted_when_the_prompts_are_used_up(self, play):
        """One call is held back for it, so what it has found is not lost."""
        rlm, server = play(
            "q -> answer: list",
            "r = sub_rlm('q -> n: int', q=q)\nSUBMIT([r.n, r.status, BUDGET()['llm_calls']])",
            sub=every("print('seen')", "2", "3", extracted={"n": 7}),
            max_llm_calls=3,
        )

        result = rlm(q="?")
        assert result.answer == [7, "extracted", 0]
        assert (
            "\n[Note] sub_rlm: the sub-run ended before it submitted" in f"\n{outputs(result)[0]}"
        )
        assert len(server.requests_to("sub")) == 3
        assert "seen" in server.requests_to("sub")[2].prompt

    def test_a_result_knows_what_it_cost(self, play):
        """`steps` and `cost` are those of the sub-run; an output of such a name takes precedence."""
        rlm, _ = play(
            "q -> answer: list",
            "a = sub_rlm('q -> n: int', q=q)\nb = sub_rlm('q -> cost: int', q=q)\n"
            "SUBMIT([a.n, a.status, a.steps, a.cost, b.cost, b.steps])",
            sub=working("print(1)", "SUBMIT(5)"),
            prices={"openai/sub": (1.0, 1.0), "openai/root": (1.0, 1.0)},
        )
        result = rlm(q="?")
        n, status, steps, cost, own, others = result.answer

        assert (n, status, steps, own, others) == (5, "submitted", 2, 5, 2)
        assert cost == pytest.approx(sum(call.cost for call in result.run.sub_calls[:2]))

    def test_a_call_that_was_held_back_is_refunded(self, play):
        """A sub-run that has submitted takes what its turns took."""
        rlm, _ = play(
            "q -> answer: int",
            "sub_rlm('q -> n: int', q=q)\nSUBMIT(BUDGET()['llm_calls'])",
            sub=every("SUBMIT(1)"),
            max_llm_calls=5,
        )
        result = rlm(q="?")

        assert (result.answer, result.run.llm_calls) == (4, 1)

    def test_the_prompts_of_the_code_of_one_sub_run_are_bounded(self, play):
        """`max_llm_calls=` counts what its code asks, not its turns; its prompt, `BUDGET()` and its error agree."""
        rlm, server = play(
            "q -> answer: list",
            "r = sub_rlm('q -> n: list', q=q, max_iterations=4, max_llm_calls=2)\n"
            "SUBMIT([r.n, BUDGET()['llm_calls']])",
            sub=working(
                "b = [BUDGET()]; _ = sub_llm('a'); b.append(BUDGET())",
                "_ = sub_llm('b')",
                "sub_llm('c')",
                "SUBMIT([[x['turns'], x['llm_calls']] for x in b])",
                otherwise=lambda _: "ok",
            ),
            max_llm_calls=50,
        )
        result = rlm(q="?")
        turns = [r for r in server.requests_to("sub") if "Turn " in r.prompt]
        prompts = [r.prompt for r in turns]

        assert result.answer == [[[3, 2], [3, 1]], 44]  # four turns and two prompts
        assert "- Budget: 4 turns, 2 sub-LM prompts. `iteration` says" in turns[0].messages[0].text
        assert [p.rpartition("Turn ")[2].partition("\n")[0] for p in prompts] == [
            "1 of 4; 2 sub-LM prompts left",
            "2 of 4; 1 sub-LM prompt left",
            "3 of 4; 0 sub-LM prompts left",
            "4 of 4; 0 sub-LM prompts left. This is the last turn: SUBMIT now.",
        ]
        assert "1 sub-LM call(s) asked for, 0 of 2 left (max_llm_calls)" in prompts[3]

    def test_the_figures_of_a_sub_run_without_a_limit_agree(self, play):
        """There are no more turns than prompts, and each prompt says what is left for the turns after it."""
        rlm, server = play(
            "q -> answer: int",
            "SUBMIT(sub_rlm('q -> n: int', q=q).n)",
            sub=working("print(BUDGET()['llm_calls'])", "2", "SUBMIT(3)"),
            max_llm_calls=4,
        )

        assert rlm(q="?").answer == 3
        contract = server.requests_to("sub")[0].messages[0].text
        first, second, third = (r.prompt for r in server.requests_to("sub"))
        assert "- Budget: 3 turns, 3 sub-LM prompts, of which each turn takes one." in contract
        assert "Turn 1 of 3; 2 sub-LM prompts left, shared with other parts; each further" in first
        assert "Turn 2 of 3; 1 sub-LM prompt left, shared with other parts; each further" in second
        assert second.rpartition("Output (")[2].splitlines()[1] == "2"
        assert "Turn 3 of 3; 0 sub-LM prompts left. This is the last turn" in third

    @pytest.mark.parametrize("value", ["0", "True", "'9'", "2.5"])
    def test_a_limit_that_is_none_is_refused(self, play, value):
        """It is a whole number above 0, like `max_iterations`."""
        rlm, server = play(
            "q -> answer: str",
            f"sub_rlm('q -> n: int', q=q, max_llm_calls={value})",
            "SUBMIT('on')",
        )

        assert "max_llm_calls must be a whole number, 1 or more" in outputs(rlm(q="?"))[0]
        assert server.requests_to("sub") == []


class TestBatches:
    def test_rows_are_as_in_predict_batched(self, play):
        """Dicts of inputs or values of the only one; results are in order, each with its status."""
        rlm, _ = play(
            "q -> answer: list",
            "a = sub_rlm_batched('text -> n: int', ['a', 'bb', 'ccc'])\n"
            "b = sub_rlm_batched('text, k: int -> n: int', [{'text': 'dddd'}, {'text': ''}], k=5, max_iterations=2)\n"
            "SUBMIT([[r.n for r in a], [r.n for r in b.ok], sorted({r.status for r in a + b}), a.failed])",
            sub=every("SUBMIT(len(text) + (k if 'k' in globals() else 0))"),
        )

        assert rlm(q="?").answer == [[1, 2, 3], [9, 5], ["submitted"], {}]

    def test_the_budget_is_divided_fairly(self, play):
        """Sub-runs that would use all there is leave each other the same share."""
        rlm, _ = play(
            "q -> answer: list",
            "rs = sub_rlm_batched('k: int -> n: int', [1, 2, 3, 4, 5, 6])\n"
            "SUBMIT([[r.n for r in rs.ok], len(rs.failed)])",
            sub=every(*["print(k)"] * 9, extracted={"n": 5}),
            max_llm_calls=18,
        )
        result = rlm(q="?")
        assert (
            "[Note] sub_rlm_batched: 6 of 6 sub-runs (rows 0, 1, 2, 3, 4, 5)" in outputs(result)[0]
        )

        assert result.answer == [[5] * 6, 0]
        assert result.run.llm_calls == 18

    def test_a_limit_of_the_caller_bounds_each_share(self, play):
        """`max_llm_calls=` is for the code of each; the prompts of all show the same, whatever their siblings do."""
        rlm, server = play(
            "q -> answer: int",
            "rs = sub_rlm_batched('k: int -> n: int', [1, 2, 3], max_iterations=2, max_llm_calls=5)\n"
            "SUBMIT(len(rs.ok))",
            sub=every("SUBMIT(k)"),
            max_llm_calls=50,
        )

        assert rlm(q="?").answer == 3
        assert all(
            "Turn 1 of 2; 5 sub-LM prompts left\n" in r.prompt for r in server.requests_to("sub")
        )

    def test_fewer_calls_than_rows(self, play):
        """The batch is refused whole, before anything is spent."""
        rlm, server = play(
            "q -> answer: str",
            "sub_rlm_batched('k: int -> n: int', [1, 2, 3])",
            "SUBMIT('on')",
            max_llm_calls=2,
        )

        assert "3 sub-LM call(s) asked for, 2 of 2 left" in outputs(rlm(q="?"))[0]
        assert server.requests_to("sub") == []

    def test_a_row_that_failed(self, play):
        """It has its exception, and the observation says so once."""
        rlm, server = play(
            "q -> answer: list",
            "rs = sub_rlm_batched('k: int -> n: int', [1, 2, 3])\n"
            "print([r.n for r in rs.ok], list(rs.failed))",
            "SUBMIT([])",
            sub=every("SUBMIT(k)"),
        )
        server.fail(
            "sub",
            Fault(
                status=400,
                message="no two",
                only=lambda r: "k`" in r.prompt and "\n2\n" in r.prompt,
            ),
        )
        first = outputs(rlm(q="?"))[0]

        assert first.startswith("[1, 3] [1]")
        assert first.count("no two") == 1
        assert "[Note] sub_rlm_batched: 1 of 3 rows failed, with: " in first

    def test_rows_without_the_inputs(self, play):
        """No sub-run is started for rows of which none has them."""
        rlm, server = play(
            "q -> answer: str",
            "sub_rlm_batched('text -> n: int', [{'txt': 'a'}])",
            "sub_rlm_batched('text -> n: int', 'abc')",
            "SUBMIT('on')",
        )
        first, second, _ = outputs(rlm(q="?"))

        assert "'text' is missing" in first
        assert "sub_rlm_batched() takes a list of rows; for one, call sub_rlm()" in second
        assert server.requests_to("sub") == []

    def test_rlm_query_batched_is_understood(self, play):
        """The names of other systems start sub-runs too: prompts, with a context for each if there are any."""
        rlm, _ = play(
            "q -> answer: list",
            "SUBMIT([list(rlm_query_batched(['a', 'b'])), list(rlm_query_batched(['c'], ['d'], max_iterations=2)), "
            "recursive_llm('e', 'f')])",
            sub=every("SUBMIT(prompt + (context if 'context' in globals() else ''))"),
        )

        assert rlm(q="it").answer == [["a", "b"], ["cd"], "ef"]


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
