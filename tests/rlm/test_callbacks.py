"""DSPy's callbacks on an RLM: which handler is called for what, with which parent call."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, FinalOutput
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from dspy_rlm import SandboxInterpreter
from dspy_rlm.dspy_bridge.callbacks import ReportedSandbox
from dspy_rlm.dspy_bridge.foreign_interpreter import InterpreterSandbox
from dspy_rlm.testing import Action, asks_for, fields, route, rules, scripted
from sandbox_runtime import SessionClosedError


@dataclasses.dataclass
class Seen:
    """One call, as reported to a handler."""

    kind: str
    id: str
    parent: str | None
    instance: Any
    inputs: dict[str, Any]
    outputs: Any = None
    exception: BaseException | None = None
    ended: bool = False


class Recorder(BaseCallback):
    """Records every call that it is notified of."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.order: list[str] = []

    def start(self, kind: str, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.seen[call_id] = Seen(kind, call_id, ACTIVE_CALL_ID.get(), instance, inputs)
        self.order.append(f"{kind} start")

    def end(self, kind: str, call_id: str, outputs: Any, exception: Any) -> None:
        seen = self.seen[call_id]
        seen.outputs, seen.exception, seen.ended = outputs, exception, True
        self.order.append(f"{kind} end")

    def all(self, kind: str) -> list[Seen]:
        return [seen for seen in self.seen.values() if seen.kind == kind]

    def one(self, kind: str, **inputs: Any) -> Seen:
        """The only call of a kind with these inputs."""
        (found,) = [s for s in self.all(kind) if inputs.items() <= s.inputs.items()]
        return found

    def path(self, seen: Seen) -> list[str]:
        """The kinds of the calls that a call is part of, the outermost first."""
        above = self.path(self.seen[seen.parent]) if seen.parent else []
        return [*above, seen.kind]


def _hears_of(kind: str) -> None:
    def start(self, call_id, instance, inputs):
        self.start(kind, call_id, instance, inputs)

    def end(self, call_id, outputs, exception=None):
        self.end(kind, call_id, outputs, exception)

    setattr(Recorder, f"on_{kind}_start", start)
    setattr(Recorder, f"on_{kind}_end", end)


for _kind in ("module", "lm", "tool", "adapter_format", "adapter_parse"):
    _hears_of(_kind)
for _kind in ("startup", "execute", "tool_call", "shutdown"):
    _hears_of(f"interpreter_{_kind}")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A handler in DSPy's settings. Request it before `play`, whose settings end first."""
    recorder = Recorder()
    with dspy.context(callbacks=[recorder]):
        yield recorder


def run_once(rlm: dspy.Module, how: str, **inputs: Any) -> dspy.Prediction:
    """Calls an RLM by `forward` or by `aforward`."""
    return rlm(**inputs) if how == "sync" else asyncio.run(rlm.acall(**inputs))


both = pytest.mark.parametrize("how", ["sync", "async"])

# The beginning of the path of everything in a cell.
CELL = ["module", "interpreter_execute", "interpreter_tool_call"]


def replies(*moves: str) -> Any:
    """A sub-LM that plays the root of a sub-run, answers typed prompts with n = 4, others with yes."""
    return route(
        (asks_for("code"), scripted(*(Action("", move) for move in moves))),
        (asks_for("n"), fields(lambda _: {"n": 4})),
        otherwise=rules([], default="yes"),
    )


class TestARun:
    @both
    def test_a_handler_hears_of_module_predictor_lm_and_adapter(self, recorder, play, how):
        """Handlers are called once for module, predictor, LM and adapter, with inputs and outputs."""
        rlm, _ = play("q: str -> answer: str", "SUBMIT(q)")
        run_once(rlm, how, q="?")

        module, predictor = recorder.all("module")
        assert (module.instance, predictor.instance) == (rlm, rlm.generate_action)
        assert module.parent is None
        assert module.outputs.answer == "?"
        assert "SUBMIT(q)" in predictor.outputs.code
        assert recorder.path(recorder.one("lm")) == ["module", "module", "lm"]
        for kind in ("adapter_format", "adapter_parse"):
            assert recorder.path(recorder.one(kind)) == ["module", "module", kind]
        assert all(seen.ended and seen.exception is None for seen in recorder.seen.values())

    @both
    def test_it_is_told_of_the_users_lm(self, recorder, play, how):
        """Callbacks see the metered copy as an LM of the same class and model, with the handlers of the user's LM."""
        rlm, _ = play("q -> answer", "SUBMIT(sub_llm('hello'))", sub=replies())
        own = Recorder()
        rlm.sub_lm.callbacks.append(own)
        run_once(rlm, how, q="?")
        root, sub = recorder.all("lm")

        assert [type(lm.instance).__name__ for lm in (root, sub)] == ["LM", "LM"]
        assert isinstance(sub.instance, dspy.LM)
        assert (root.instance.model, sub.instance.model) == ("openai/root", "openai/sub")
        assert sub.inputs["prompt"] == "hello"
        assert sub.outputs == ["yes"]
        assert [seen.inputs["prompt"] for seen in own.all("lm")] == ["hello"]

    @both
    def test_the_interpreter_is_seen(self, recorder, play, how):
        """Startup, each cell with its code, the inputs with the first, and shutdown are reported as parts of the run."""
        rlm, _ = play("q: str -> n: int", "print(q)", "1/0", "SUBMIT(3)")
        run_once(rlm, how, q="hi")
        cells = recorder.all("interpreter_execute")

        assert [cell.inputs["code"] for cell in cells] == ["print(q)", "1/0", "SUBMIT(3)"]
        assert [cell.inputs["variables"] for cell in cells] == [{"q": "hi"}, {}, {}]
        assert [cell.outputs for cell in cells] == ["hi\n", None, FinalOutput({"n": 3})]
        assert isinstance(cells[1].exception, CodeExecutionError)
        assert "ZeroDivisionError" in str(cells[1].exception)
        assert all(isinstance(cell.instance, dspy.CodeInterpreter) for cell in cells)
        for kind in ("startup", "execute", "shutdown"):
            for seen in recorder.all(f"interpreter_{kind}"):
                assert recorder.path(seen) == ["module", f"interpreter_{kind}"]
        assert len(recorder.all("interpreter_startup")) == 1
        assert len(recorder.all("interpreter_shutdown")) == 1

    @both
    def test_everything_in_a_cell_is_a_part_of_it(self, recorder, play, how):
        """Sub-LM calls, typed calls, batches in threads, and sync and async tools are parts of the cell."""
        active: dict[str, str | None] = {}

        def search(word: str) -> str:
            active[word] = ACTIVE_CALL_ID.get()
            return word

        async def later(word: str) -> str:
            active[word] = ACTIVE_CALL_ID.get()
            return word

        rlm, _ = play(
            "q -> answer: list",
            "a = sub_llm('one')\n"
            "b = sub_llm_batched(['two', 'three'])\n"
            "c = predict('q -> n: int', q='four').n\n"
            "d = predict_batched('q -> n: int', ['five', 'six'])\n"
            "e = [search('s'), later('t'), *search.batched(['u']), await later.aio('v')]\n"
            "SUBMIT(e)",
            sub=replies(),
            tools=[search, later],
        )
        run_once(rlm, how, q="?")
        in_cell = [lm for lm in recorder.all("lm") if lm.instance.model == "openai/sub"]

        assert [recorder.path(lm) for lm in in_cell] == [
            *([[*CELL, "lm"]] * 3),
            *([[*CELL, "module", "lm"]] * 3),
        ]
        tools = {tool.inputs["kwargs"]["word"]: tool for tool in recorder.all("tool")}
        assert {tool.instance.name for tool in tools.values()} == {"search", "later"}
        assert {word: tool.id for word, tool in tools.items()} == active
        assert list(active) == ["s", "t", "u", "v"]
        for tool in tools.values():
            assert recorder.path(tool) == [*CELL, "tool"]
            assert tool.outputs == tool.inputs["kwargs"]["word"]
        tool_names = [call.inputs["tool_name"] for call in recorder.all("interpreter_tool_call")]
        assert tool_names[:4] == ["sub_llm", "sub_llm_batched", "predict", "predict_batched"]
        assert tool_names[4:] == ["search", "later", "search", "later"]
        assert len({call.parent for call in recorder.all("interpreter_tool_call")}) == 1

    @both
    @pytest.mark.sampled(1)
    def test_a_sub_run_is_a_part_of_the_call_that_started_it(self, recorder, play, how):
        """A sub-run, its interpreter and its calls have the starting call as their ancestor."""
        rlm, _ = play(
            "q -> answer: str",
            "SUBMIT(sub_rlm('q -> a: str', q='inner').a)",
            sub=replies("SUBMIT(sub_llm('deep'))"),
        )
        assert run_once(rlm, how, q="outer").answer == "yes"

        deep = recorder.one("lm", prompt="deep")
        assert recorder.path(deep) == [*CELL, *CELL, "lm"]
        assert (
            recorder.one("module", kwargs={"q": "inner"}).parent
            == recorder.one("interpreter_tool_call", tool_name="sub_rlm").id
        )
        assert len({id(s.instance) for s in recorder.all("interpreter_startup")}) == 2
        assert recorder.one("interpreter_execute", variables={"q": "inner"}).inputs["code"] == (
            "SUBMIT(sub_llm('deep'))"
        )

    def test_handlers_of_an_instance(self, play):
        """The RLM's handlers receive its runs; those of its predictor receive the predictor's calls."""
        rlm, _ = play("q -> answer", "SUBMIT(q)")
        of_rlm, of_predictor = Recorder(), Recorder()
        rlm.callbacks.append(of_rlm)
        rlm.generate_action.callbacks.append(of_predictor)
        rlm(q="?")

        assert of_rlm.order == ["module start", "module end"]
        assert of_rlm.one("module").instance is rlm
        assert of_predictor.one("module").instance is rlm.generate_action

    @both
    def test_a_tool_that_raises(self, recorder, play, how):
        """A failing tool ends its tool call and the interpreter's call with its exception; the run continues."""

        def fail(word: str) -> str:
            raise KeyError(word)

        rlm, _ = play("q -> answer", "fail('x')", "SUBMIT('')", tools=[fail])
        run_once(rlm, how, q="?")

        assert isinstance(recorder.one("tool").exception, KeyError)
        assert isinstance(recorder.one("interpreter_tool_call").exception, KeyError)
        assert isinstance(recorder.all("interpreter_execute")[0].exception, CodeExecutionError)

    def test_a_handler_that_fails_does_not_disturb(self, play):
        """A failing handler is logged by DSPy and does not affect the run."""

        class Broken(BaseCallback):
            def on_interpreter_execute_start(self, call_id, instance, inputs):
                raise ValueError("broken handler")

        rlm, _ = play("q -> answer", "SUBMIT('right')")
        with dspy.context(callbacks=[Broken()]):
            assert rlm(q="?").answer == "right"

    def test_runs_at_the_same_time_are_kept_apart(self, recorder, play):
        """Each call in a cell is a part of its own run, even if runs are concurrent."""
        rlm, _ = play("q: str -> answer: str", "SUBMIT(sub_llm(q))", sub=replies())

        async def all_of_them():
            await asyncio.gather(*(rlm.acall(q=f"run {n}") for n in range(3)))

        asyncio.run(all_of_them())
        for n in range(3):
            run = recorder.one("module", kwargs={"q": f"run {n}"})
            lm = recorder.one("lm", prompt=f"run {n}")
            top = lm
            while top.parent:
                top = recorder.seen[top.parent]
            assert top is run

    def test_a_cell_that_is_run_again_calls_nothing_again(self, recorder, play, fresh):
        """Answers to a lost process are recorded: neither a tool nor a handler is called twice."""
        calls: list[str] = []

        def note(word: str) -> str:
            calls.append(word)
            return word

        def die() -> None:
            pid = recorder.all("interpreter_execute")[-1].instance._sandbox.pid
            os.kill(pid, signal.SIGKILL)

        rlm, _ = play(
            "q -> answer: str",
            "x = note('a') + sub_llm('?')",
            "die()",
            "SUBMIT(x + note('b'))",
            sub=replies(),
            tools=[note, die],
            pool=fresh,
        )

        assert rlm(q="?").answer == "ayesb"
        assert calls == ["a", "b"]
        reports = [c.inputs["kwargs"]["word"] for c in recorder.all("tool") if c.inputs["kwargs"]]
        assert reports == ["a", "b"]
        assert len(recorder.all("interpreter_execute")) == 3

    @pytest.mark.parametrize("callbacks", [[], [BaseCallback()]])
    def test_without_handlers_no_interpreter_is_made(self, play, callbacks):
        """Without handlers, cells run in the session itself."""

        def count() -> int:
            gc.collect()  # what an earlier run with such a tool has left
            wrappers = [thing for thing in gc.get_objects() if isinstance(thing, ReportedSandbox)]
            return sum("count" in sandbox.tools for sandbox in wrappers)

        rlm, _ = play("q -> answer: int", "SUBMIT(count())", tools=[count])
        with dspy.context(callbacks=callbacks):
            assert rlm(q="?").answer == len(callbacks)

    def test_a_sandbox_that_another_thread_closes(self, recorder, kept):
        """A sandbox closed by another thread reports its shutdown once, as a part of the run."""
        token = ACTIVE_CALL_ID.set("the run")
        sandbox = ReportedSandbox(lambda tools: kept.lend(tools), {})
        sandbox.start()
        ACTIVE_CALL_ID.reset(token)
        closing = threading.Thread(target=sandbox.close)
        closing.start()
        closing.join()
        sandbox.close()

        assert recorder.one("interpreter_shutdown").parent == "the run"
        with pytest.raises(SessionClosedError):
            sandbox.run_cell("1")

    @pytest.mark.filterwarnings("ignore")  # DSPy's own says that it is no sandbox
    @pytest.mark.parametrize("kind", [SandboxInterpreter, dspy.LocalInterpreter])
    def test_an_interpreter_of_somebody_elses_is_reported_once(self, recorder, play, kept, kind):
        """A third-party interpreter reports its own events, or none."""

        options = {"pool": kept} if kind is SandboxInterpreter else {}

        def search(word: str) -> str:
            return word

        rlm, _ = play(
            "q: str -> answer: str",
            "SUBMIT(search(word='x'))",
            tools=[search],
            interpreter_factory=lambda: kind(**options),
        )
        assert rlm(q="?").answer == "x"

        (cell,) = [s for s in recorder.all("interpreter_execute") if "SUBMIT" in s.inputs["code"]]
        assert isinstance(cell.instance, kind)
        assert recorder.one("interpreter_tool_call").parent == cell.id
        assert recorder.path(recorder.one("tool")) == [*CELL, "tool"]
        assert len(recorder.all("interpreter_startup")) == 1
        assert len(recorder.all("interpreter_shutdown")) == 1


class TestTheEndOfTheTime:
    """Another thread ends the work in progress; the shutdown is still reported once, as a part of the run."""

    @pytest.fixture
    def recorder(self) -> Iterator[Recorder]:
        """A handler for all threads, including those outside of the run's context."""
        before, recorder = dspy.settings.callbacks, Recorder()
        dspy.configure(callbacks=[recorder])
        # Here too, whatever settings this thread has already.
        with dspy.context(callbacks=[recorder]):
            yield recorder
        dspy.configure(callbacks=before)

    def test_of_an_interpreter_of_somebody_elses(self, recorder, play, kept):
        """The first caller shuts the interpreter down; later ones find it closed."""
        rlm, _ = play(
            "q -> answer",
            "while True: pass",
            extracted={"answer": "x"},
            interpreter_factory=lambda: SandboxInterpreter(pool=kept),
            max_seconds=1.5,
        )
        assert rlm(q="?").run.stopped_by == "max_seconds"

        shutdown = recorder.one("interpreter_shutdown")
        assert recorder.path(shutdown) == ["module", "interpreter_shutdown"]

    def test_of_an_interpreter_that_is_lent(self):
        """A borrowed interpreter is given back once, however often it is closed."""
        given_back: list[str] = []
        sandbox = InterpreterSandbox(
            SandboxInterpreter(), {}, {}, 1000, (), lambda: given_back.append("now")
        )
        sandbox.close()
        sandbox.close()

        assert given_back == ["now"]

    @pytest.mark.filterwarnings("ignore:ProgramOfThought is deprecated")
    @pytest.mark.nightly  # waits for the start of a second interpreter
    def test_of_a_module_in_a_cell(self, recorder, play):
        """A DSPy module in a cell shuts down its own interpreter."""
        rlm, _ = play(
            "q -> answer",
            "import dspy\ndspy.ProgramOfThought('q -> a', max_iters=1)(q='?')",
            sub=fields(
                lambda _: {"reasoning": "", "generated_code": "import time\ntime.sleep(55)"}
            ),
            extracted={"answer": "x"},
            max_seconds=4,
        )
        assert rlm(q="?").run.stopped_by == "max_seconds"

        def of_the_modules() -> list[Seen]:
            reports = recorder.all("interpreter_shutdown")
            return [seen for seen in reports if isinstance(seen.instance, SandboxInterpreter)]

        end = time.monotonic() + 30
        while not of_the_modules():  # in the module's own thread, which nobody waits for
            assert time.monotonic() < end, "waited in vain"
            threading.Event().wait(0.01)
        (shutdown,) = of_the_modules()
        assert recorder.path(shutdown) == [*CELL, "module", "interpreter_shutdown"]


class TestSandboxInterpreter:
    """Our sandbox under DSPy's modules is reported like `dspy.PythonInterpreter`."""

    def test_a_lazy_start_and_tool_calls_are_parts_of_the_execution(self, recorder, kept):
        """A lazy start and tool calls are parts of the execution, as in DSPy's own interpreter."""
        with SandboxInterpreter(tools={"add": lambda a, b=1: a + b}, pool=kept) as interpreter:
            printed = interpreter.execute("print(add(1) + add(1, b=2))", {"x": 5})

        execution = recorder.one("interpreter_execute")
        assert execution.inputs == {
            "code": "print(add(1) + add(1, b=2))",
            "variables": {"x": 5},
        }
        assert execution.outputs == printed
        assert recorder.one("interpreter_startup").parent == execution.id
        calls = recorder.all("interpreter_tool_call")
        assert [call.inputs for call in calls] == [
            {"tool_name": "add", "kwargs": {"a": 1}},
            {"tool_name": "add", "kwargs": {"a": 1, "b": 2}},
        ]
        assert {call.parent for call in calls} == {execution.id}
        assert recorder.one("interpreter_shutdown").parent is None

    def test_an_explicit_start_stands_for_itself(self, recorder, kept):
        """An explicit start is reported separately, and the next execution starts nothing."""
        with SandboxInterpreter(pool=kept) as interpreter:
            interpreter.start()
            interpreter.execute("1")

        assert [line for line in recorder.order if line.endswith("start")] == [
            "interpreter_startup start",
            "interpreter_execute start",
            "interpreter_shutdown start",
        ]
        assert recorder.one("interpreter_startup").parent is None

    def test_handlers_of_its_own(self, kept):
        """`callbacks=` applies to this interpreter alone; calls of coroutine tools end when the coroutines do."""
        own = Recorder()

        async def later(word: str) -> str:
            await asyncio.sleep(0)
            return word * 2

        with SandboxInterpreter(tools={"later": later}, callbacks=[own], pool=kept) as interpreter:
            interpreter.execute("later('x')")
            with pytest.raises(SyntaxError):
                interpreter.execute("(")
        with SandboxInterpreter(pool=kept) as interpreter:
            interpreter.execute("1")

        assert own.one("interpreter_tool_call").outputs == "xx"
        assert [type(s.exception) for s in own.all("interpreter_execute")] == [
            type(None),
            SyntaxError,
        ]
        assert len(own.all("interpreter_startup")) == 1

    def test_a_tool_can_be_invoked_by_name(self):
        """A tool can be invoked by name, as in DSPy's own interpreter."""
        interpreter = SandboxInterpreter(tools={"add": lambda a, b: a + b})

        assert interpreter.invoke_tool("add", {"a": 1, "b": 2}) == 3
        with pytest.raises(dspy.CodeInterpreterError, match="Unknown tool: sub"):
            interpreter.invoke_tool("sub", {})
