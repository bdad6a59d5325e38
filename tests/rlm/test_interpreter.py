"""Our sandbox under DSPy's modules, and DSPy's interpreters under our RLM."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Iterator
from threading import Lock

import dspy
import pytest
from dspy.primitives.code_interpreter import (
    CodeExecutionError,
    CodeInterpreter,
    CodeInterpreterError,
    FinalOutput,
)
from thrifty_pool import ThriftyPool

from dspy_rlm import Limits, SandboxInterpreter
from dspy_rlm.testing import Action, PolicyServer, asks_for, fields, route, rules, scripted


@pytest.fixture
def own(fresh: ThriftyPool) -> Iterator[SandboxInterpreter]:
    """An interpreter with a new session, which the test may destroy."""
    with SandboxInterpreter(pool=fresh) as opened:
        yield opened


@pytest.fixture
def interpreter(kept: ThriftyPool) -> Iterator[SandboxInterpreter]:
    with SandboxInterpreter(pool=kept) as opened:
        yield opened


class TestProtocol:
    def test_it_is_a_code_interpreter(self):
        """DSPy accepts it as a `CodeInterpreter`."""
        assert isinstance(SandboxInterpreter(), CodeInterpreter)

    def test_execute_returns_what_was_printed(self, interpreter):
        """Printed text, otherwise the last value, otherwise None."""
        assert interpreter.execute("print('a'); print('b')") == "a\nb\n"
        assert interpreter.execute("x = 20\nx + 1") == 21
        assert interpreter("y = x") is None

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("[1, (2, None), {'k': 0.5}]", [1, [2, None], {"k": 0.5}]),
            ("{3, 1, 2}", [1, 2, 3]),
            ("'text'", "text"),
            ("1 + 2j", "(1+2j)\n"),
            ("object", "<class 'object'>\n"),
            ("(yes := True)", True),
            ("import asyncio\nawait asyncio.sleep(0, 'later')", "later"),
            ("print('before')\n{'a': 1}", "before\n{'a': 1}"),
            ("print('only')", "only\n"),
            ("None", None),
        ],
    )
    def test_the_last_value(self, interpreter, code, expected):
        """The last value is returned as JSON or else as text, below the printed output."""
        assert interpreter.execute(code) == expected

    def test_a_value_that_the_host_cannot_have(self, interpreter):
        """A value without a form on the host becomes text; a huge one beside printed output is abridged."""
        deep = "x = []\nfor _ in range(5000): x = [x]\nx[0][0] and 'too deep'"
        assert interpreter.execute(deep) == "too deep"
        assert interpreter.execute("x").startswith("[[[")
        text = interpreter.execute("print('p')\n'y' * 1_000_000")
        assert len(text) < 25_000

    def test_variables_are_bound_before_the_code_runs(self, interpreter):
        """Variables are bound first, even some that peers refuse; mutable ones are sent with every execution."""
        rows = [1]
        assert interpreter.execute("rows, s", {"rows": rows, "s": {1}}) == [[1], [1]]
        rows.append(2)
        assert interpreter.execute("rows", {"rows": rows, "s": {1}}) == [1, 2]

    def test_a_name_that_is_given_something_else_and_back(self, interpreter):
        """The sandbox has the latest value of a name, whatever it had before."""
        text = "text"
        assert interpreter.execute("x", {"x": text}) == "text"
        assert interpreter.execute("x", {"x": [1]}) == [1]
        assert interpreter.execute("x", {"x": text}) == "text"

    def test_a_variable_that_could_not_enter(self, interpreter):
        """Variables sent together with a refused one have not arrived, and are sent the next time."""
        text = "text"
        with pytest.raises(CodeInterpreterError, match="bad is of type"):
            interpreter.execute("x", {"bad": Lock(), "x": text})

        assert interpreter.execute("x", {"x": text}) == "text"

    def test_errors_are_told_apart(self, interpreter):
        """Code that raises is recoverable, code that does not parse is a SyntaxError."""
        with pytest.raises(CodeExecutionError, match="KeyError: 'k'"):
            interpreter.execute("print('before')\n{}['k']")
        with pytest.raises(SyntaxError, match="never closed"):
            interpreter.execute("(")
        assert interpreter.execute("1") == 1

    def test_a_lost_session_is_not_replaced_in_silence(self, kept):
        """A lost session is an error, as the protocol requires, and ends the interpreter."""
        with SandboxInterpreter(limits=Limits(memory_bytes=256 * 2**20), pool=kept) as interpreter:
            interpreter.execute(
                "class Trap:\n    def __del__(self):\n        import ctypes; ctypes.string_at(2**31, 10)\n"
                "x = Trap()"
            )
            with pytest.raises(CodeExecutionError, match="as it was before this cell"):
                interpreter.execute("x = None")
            with pytest.raises(CodeInterpreterError, match=r"everything else .* is gone"):
                interpreter.execute("x = None")
            with pytest.raises(CodeInterpreterError, match="has ended"):
                interpreter.execute("1")

    def test_a_loss_between_two_executions(self, own):
        """A loss between two executions ends the interpreter, even if the code would have run."""
        own.tools["echo"] = lambda value: value
        own.execute("import time; x = echo(time.time())")  # cannot be asked twice
        os.kill(own._session.pid, signal.SIGKILL)

        with pytest.raises(CodeInterpreterError, match=r"everything else .* is gone"):
            own.execute("1")
        with pytest.raises(CodeInterpreterError, match="has ended"):
            own.execute("1")

    def test_a_cell_that_prints_something_else_is_no_loss(self, own):
        """Different output of a replayed cell is no loss; the code that ended the process gets the error."""
        own.tools["die"] = lambda: os.kill(own._session.pid, signal.SIGKILL)
        own.execute("import time; x = 1; print(time.time())")

        with pytest.raises(CodeExecutionError, match="printed something else"):
            own.execute("die()")
        assert own.execute("x") == 1

    def test_a_session_that_is_brought_back_goes_on(self, kept):
        """A cell that ended the process has failed; the variables are restored."""
        with SandboxInterpreter(
            limits=Limits(cell_seconds=0.3, grace_seconds=0.3), pool=kept
        ) as interpreter:
            interpreter.execute("x = 1")
            with pytest.raises(CodeExecutionError, match=r"Limits\.cell_seconds"):
                interpreter.execute("sum(range(10**12))")
            assert interpreter.execute("x") == 1

    def test_submit_gives_a_final_output(self, interpreter):
        """SUBMIT returns a FinalOutput: one value as `output` without declared fields, otherwise by name."""
        assert interpreter.execute("SUBMIT([1, (2, 3)])") == FinalOutput({"output": [1, (2, 3)]})
        interpreter.output_fields = [{"name": "a", "type": "int"}, {"name": "b"}]
        assert interpreter.execute("SUBMIT(1, b='x')") == FinalOutput({"a": 1, "b": "x"})

    def test_tools_may_be_added_between_executions(self, interpreter):
        """DSPy may change the dict of tools between executions; coroutine functions are awaited."""

        async def later(n: int) -> int:
            await asyncio.sleep(0)
            return n + 1

        interpreter.execute("1")
        interpreter.tools["later"] = later
        assert interpreter.execute("later(1)") == 2
        assert interpreter.execute("later(n=2)") == 3

    def test_shutdown_twice_is_fine(self, interpreter):
        """Shutting down twice is fine, and nothing runs afterwards."""
        interpreter.start()
        interpreter.shutdown()
        interpreter.shutdown()
        with pytest.raises(CodeInterpreterError):
            interpreter.start()


@pytest.fixture
def quiet() -> Iterator[None]:
    """Two of DSPy's modules warn that they are deprecated; its RLM that it is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
class TestDspyModules:
    def test_program_of_thought(self):
        """`ProgramOfThought` runs its code in our sandbox and answers with the output."""
        code = fields(lambda _given: {"reasoning": "", "generated_code": "result = 6 * 7\nresult"})
        answer = fields(lambda inputs: {"reasoning": "", "answer": inputs["code_output"]})
        player = route((asks_for("generated_code"), code), otherwise=answer)
        with PolicyServer({"m": player}) as server, dspy.context(lm=server.lm("m")):
            program = dspy.ProgramOfThought(
                "question -> answer: int", interpreter_factory=SandboxInterpreter
            )
            assert program(question="6 * 7?").answer == 42

    def test_code_act(self):
        """`CodeAct` defines its tools in the sandbox by their source."""

        def moves(inputs):
            if "code_output_0" in inputs["trajectory"]:
                return {"generated_code": "print('done')", "finished": True}
            return {"generated_code": "print(triple(14))", "finished": False}

        player = route(
            (asks_for("generated_code"), fields(moves)),
            otherwise=fields(
                lambda inputs: {
                    "reasoning": "",
                    "answer": 42 if "42" in inputs["trajectory"] else 0,
                }
            ),
        )
        with PolicyServer({"m": player}) as server, dspy.context(lm=server.lm("m")):
            program = dspy.CodeAct(
                "question -> answer: int", tools=[triple], interpreter_factory=SandboxInterpreter
            )
            assert program(question="3 * 14?").answer == 42

    def test_dspys_own_rlm(self):
        """DSPy's own RLM runs on our interpreter, with sub-queries and typed SUBMIT; the input is sent once."""
        root = scripted(
            Action("", "print(len(text), llm_query('colour?'), triple(2), triple(n=3))"),
            Action("", "import dspy\nprint(dspy.Predict('q -> a')(q='7').a)"),
            Action("", "SUBMIT(len(text), {1: 2})"),
        )
        sub = route(
            (asks_for("a"), fields(lambda inputs: {"a": f"<{inputs['q']}>"})),
            otherwise=rules([], default="red"),
        )
        models = {"root": root, "sub": sub}
        with PolicyServer(models) as server, dspy.context(lm=server.lm("root")):
            program = dspy.RLM(
                "text -> n: int, table: dict[int, int]",
                sub_lm=server.lm("sub"),
                tools=[triple],
                interpreter_factory=SandboxInterpreter,
            )
            result = program(text="x" * 1_000_000)
        assert (result.n, result.table) == (1_000_000, {1: 2})
        assert result.trajectory[0]["output"] == "1000000 red 6 9\n"
        assert result.trajectory[1]["output"] == "<7>\n"


class TestOtherInterpreters:
    def test_our_rlm_runs_on_dspys_local_interpreter(self, play):
        """Any `CodeInterpreter` can run our cells; its output is abridged on the host."""
        rlm, _ = play(
            "text -> n: int",
            "print('x' * 50_000)",
            "print(nonsense)",
            "SUBMIT(len(text) + add(1, b=2))",
            interpreter_factory=dspy.LocalInterpreter,
            tools=[add],
        )
        result = rlm(text="abc")

        assert result.n == 6
        assert len(result.trajectory[0]["output"]) < 11_000
        assert "nonsense" in result.trajectory[1]["output"]

    def test_typed_sub_calls_give_dicts_there(self, play):
        """Another interpreter gets dicts from typed sub-calls, as the contract says; a failed row has the reason."""
        sub = fields(lambda inputs: {"n": inputs["text"]})
        rlm, server = play(
            "q -> answer: list",
            "rows = predict_batched('text -> n: int', ['1', 'x'])\n"
            "SUBMIT([predict('text -> n: int', text='4')['n'], rows[0]['n'], rows[1]['error'], "
            "BUDGET()['turns']])",
            sub=sub,
            interpreter_factory=dspy.LocalInterpreter,
        )

        assert rlm(q="?").answer == [4, 1, "SubCallError", 19]
        assert 'text=t)["date"]' in server.requests[0].messages[0].text

    def test_a_list_is_shown_line_by_line(self, play):
        """A list is shown line by line, as DSPy shows it, including None."""
        rlm, _ = play(
            "q -> a", "[None, 1]", "None", "SUBMIT('')", interpreter_factory=dspy.LocalInterpreter
        )
        result = rlm(q="")

        assert [step["output"] for step in result.trajectory[:2]] == ["None\n1", ""]

    def test_a_first_cell_that_does_not_parse(self, play):
        """A first cell that does not parse loses no input: an interpreter that prepends assignments has bound none."""
        rlm, _ = play(
            "text -> n: int",
            "print(len(text)",
            "SUBMIT(len(text))",
            interpreter_factory=Prefixing,
        )

        assert rlm(text="abc").n == 3

    def test_a_configured_factory_is_used(self, play):
        """`dspy.configure(interpreter_factory=...)` holds for us too; the contract has its rules."""
        instances = []

        def factory() -> CodeInterpreter:
            instances.append(dspy.LocalInterpreter())
            return instances[-1]

        rlm, server = play("q -> answer", "SUBMIT(answer='x')")
        with dspy.context(interpreter_factory=factory):
            rlm(q="")

        assert len(instances) == 1
        assert "WebAssembly" not in server.requests[0].messages[0].text

    def test_a_factory_that_makes_something_else_is_refused(self, play):
        """A factory that returns something else is refused by name before any LM call."""
        rlm, server = play("q -> answer", interpreter_factory=dict)

        with pytest.raises(TypeError, match="returned a dict"):
            rlm(q="")
        assert not server.requests


class Prefixing(dspy.LocalInterpreter):
    """Binds variables as `dspy.PythonInterpreter` does: by statements above the code."""

    def execute(self, code, variables=None):
        lines = [f"{name} = {value!r}" for name, value in (variables or {}).items()]
        return super().execute("\n".join([*lines, code]))


def add(a: int, b: int) -> int:
    """Adds one."""
    return a + b


def triple(n: int) -> int:
    """Triples a number."""
    return 3 * n
