"""Programs that were written for `dspy.RLM`, of any of its versions, on ours."""

from __future__ import annotations

import asyncio
import copy
import itertools
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dspy
import pytest
from dspy.primitives.code_interpreter import CodeInterpreterError, FinalOutput

import dspy_rlm
from dspy_rlm import RLM, InputError, SandboxInterpreter, SignatureError
from dspy_rlm.cli.main import main
from dspy_rlm.dspy_bridge.interpreter_factory import borrowed as borrowed_factory
from dspy_rlm.dspy_bridge.interpreter_factory import factory_of
from dspy_rlm.testing import Action, PolicyServer, route, scripted

SUBMIT_LENGTH = "SUBMIT(len(text))"


class Noting(dspy.LocalInterpreter):
    """An interpreter that counts its calls."""

    execution_instructions = "The code runs in a local interpreter."
    made = 0
    ended = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1

    def shutdown(self) -> None:
        type(self).ended += 1
        super().shutdown()


class Waiting:
    """An interpreter whose code `wait` blocks until the test releases it; all other code submits."""

    execution_instructions = ""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}
        self.begun, self.released = threading.Event(), threading.Event()
        self.running = self.most = 0

    def start(self) -> None:
        """Starts without any preparation, as DSPy's protocol allows."""

    def shutdown(self) -> None:
        """Records the shutdown, which no run may request."""
        raise AssertionError("it was ended")

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Runs code, and counts the concurrent executions."""
        self.running += 1
        self.most = max(self.most, self.running)
        if code == "wait":
            self.begun.set()
            self.released.wait(60)
        self.running -= 1
        return None if code == "wait" else FinalOutput({"a": "x"})


@pytest.fixture
def noting() -> type[Noting]:
    """A fresh class, so that each test counts from zero."""
    return type("Noting", (Noting,), {"made": 0, "ended": 0})


@pytest.fixture
def borrowed() -> Iterator[dspy.LocalInterpreter]:
    """An interpreter that the test owns."""
    interpreter = dspy.LocalInterpreter()
    yield interpreter
    interpreter.shutdown()


class TestSettings:
    def test_arguments_in_dspys_order(self):
        """Positional arguments have the order of `dspy.RLM(signature, max_iters, max_llm_calls, ...)`."""
        lm = dspy.LM("openai/none", api_key="none")
        rlm = RLM("q -> a", 3, 7, 500, True, [abs_of], lm, dspy.LocalInterpreter)

        assert (rlm.max_iters, rlm.max_llm_calls, rlm.max_output_chars) == (3, 7, 500)
        assert (rlm.verbose, rlm.sub_lm) == (True, lm)
        assert list(rlm.tools) == ["abs_of"]

    @pytest.mark.parametrize("name", ["max_iters", "max_iterations"])
    def test_both_names_of_the_limit(self, play, name):
        """The limit has the name of newer DSPy versions and that of older ones."""
        rlm, server = play("q -> a", "1", "2", "3", extracted={"a": "x"}, **{name: 2})

        assert rlm(q="").a == "x"
        assert len(server.requests) == 3  # two turns and the extraction

    def test_limits_that_are_set_later(self, play):
        """Limits can be set later, as attributes of the module, like in `dspy.RLM`."""
        rlm, server = play("q -> a", "print('y' * 900)", "2", extracted={"a": "x"})
        rlm.max_iters, rlm.max_llm_calls, rlm.max_output_chars = 1, 0, 100

        result = rlm(q="")

        assert len(server.requests) == 2
        assert len(result.trajectory[0]["output"]) < 250
        assert (rlm.max_iterations, rlm.max_llm_calls) == (1, 0)
        with pytest.raises(SignatureError, match="max_iterations"):
            rlm.max_iters = 0

    def test_the_fallback_is_there_to_look_at(self, play):
        """`rlm.extract` can be read and replaced, but is no predictor for optimizers, because no trace shows it."""
        rlm, server = play("q -> a: int", "1", max_iters=1)
        assert set(rlm.extract.signature.output_fields) == {"a"}
        assert [name for name, _ in rlm.named_predictors()] == ["generate_action"]

        rlm.extract = Answering([{"a": 7}])
        assert rlm(q="").a == 7
        assert len(server.requests) == 1

    def test_a_predictor_of_the_users_own(self):
        """Any callable that returns `reasoning` and `code` serves as the predictor; it need not use DSPy's LM."""
        rlm = RLM("text -> n: int", interpreter_factory=dspy.LocalInterpreter)
        rlm.generate_action = Answering(
            [
                {"reasoning": "", "code": "print(sub_llm('?'))"},
                {"reasoning": "", "code": SUBMIT_LENGTH},
            ]
        )
        with dspy.context(lm=None):
            result = rlm(text="abc")
            assert asyncio.run(rlm.acall(text="abcd")).n == 4

        assert result.n == 3
        assert "There is no LM to ask" in result.trajectory[0]["output"]

    def test_batch(self, play):
        """Each example of a batch is a separate run."""
        rlm, _ = play("text -> n: int", SUBMIT_LENGTH)
        examples = [dspy.Example(text="x" * n).with_inputs("text") for n in range(1, 6)]

        assert [result.n for result in rlm.batch(examples, num_threads=3)] == [1, 2, 3, 4, 5]


# With the RLM, in DSPy's settings, as a call's argument.
WAYS = ("once", "configured", "called")


class TestOlderCode:
    def test_an_interpreter_for_all_calls(self, play, borrowed):
        """An instance passed as `interpreter=` (until DSPy 3.2) keeps its state and stays open."""
        rlm, _ = play(
            "text -> n: int",
            "n = globals().get('n', 0) + len(text)\nSUBMIT(n)",
            max_iterations=5,
            tools=[abs_of],
            interpreter=borrowed,
        )

        assert [rlm(text="ab").n, rlm(text="cde").n] == [2, 5]
        assert borrowed.execute("n") == 5

    def test_the_same_by_position(self, borrowed):
        """The interpreter is also accepted as the eighth positional argument."""
        player = scripted(Action("", "SUBMIT(abs_of(-2))"))
        with PolicyServer({"m": player}) as server, dspy.context(lm=server.lm("m")):
            rlm = RLM("text -> n: int", 5, 50, 10_000, False, [abs_of], None, borrowed)
            assert rlm(text="").n == 2
        assert borrowed.execute("1 + 1") == 2

    def test_an_interpreter_for_one_call(self, play, borrowed):
        """An instance is accepted as the first argument of a call, as in DSPy 3.3."""
        rlm, _ = play("text -> n: int", "SUBMIT(len(text) + bonus)")
        borrowed.execute("bonus = 10")

        assert rlm(borrowed, text="ab").n == 12
        assert asyncio.run(rlm.acall(borrowed, text="abc")).n == 13
        assert borrowed.execute("bonus") == 10

    def test_it_is_left_with_the_tools_that_it_had(self, play, borrowed):
        """The tools that a run adds to a caller's interpreter are removed afterwards."""
        borrowed.tools["own"] = abs_of
        rlm, _ = play("text -> n: int", "SUBMIT(own(-1) + len(text))")

        assert rlm(borrowed, text="a").n == 2
        assert dict(borrowed.tools) == {"own": abs_of}

    def test_it_is_left_with_the_fields_that_it_had(self, play, kept):
        """A caller's interpreter gets its own SUBMIT fields back after a run."""
        rlm, _ = play("text -> n: int", SUBMIT_LENGTH)
        with SandboxInterpreter(output_fields=[{"name": "mine"}], pool=kept) as interpreter:
            assert rlm(interpreter, text="ab").n == 2
            assert interpreter.execute("SUBMIT(mine=2)") == FinalOutput({"mine": 2})

    def test_one_that_cannot_be_taken_over_is_given_back(self, play):
        """An interpreter that cannot be taken over is given back, and shut down if it was created for the run."""

        class Fixed(Noting):
            made, ended = 0, 0
            tools = property(lambda self: MappingProxyType({}), lambda self, value: None)

        rlm, _ = play("text -> n: int", SUBMIT_LENGTH, interpreter_factory=Fixed)
        with pytest.raises(AttributeError):
            rlm(text="a")
        assert (Fixed.made, Fixed.ended) == (1, 1)
        fixed = Fixed()
        for _ in range(2):  # the second does not wait for ever
            with pytest.raises(AttributeError):
                rlm(fixed, text="a")

    def test_it_is_left_open_when_a_run_fails(self, play, borrowed):
        """After a failed run the interpreter stays open and is free for the next run."""
        rlm, _ = play("text -> n: int", SUBMIT_LENGTH, interpreter=borrowed)
        with dspy.context(lm=None), pytest.raises(dspy.LMNotConfiguredError):
            rlm(text="a")
        with pytest.raises(InputError):
            rlm(nonsense=1)

        assert rlm(text="ab").n == 2

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("way", WAYS)
    def test_runs_at_once_take_turns(self, play, borrowed, way):
        """Concurrent runs on one interpreter take turns, however they received it; the peer mixes them up."""
        rlm, _ = play(
            "text -> n: int",
            "mine = text\nimport time\ntime.sleep(0.05)",
            "SUBMIT(int(mine))",
            interpreter=borrowed if way == "once" else None,
        )
        settings = {"interpreter_factory": borrowed} if way == "configured" else {}
        args = [borrowed] if way == "called" else []
        with dspy.context(**settings), ThreadPoolExecutor(4) as threads:
            run = _in_this_context(lambda n: rlm(*args, text=str(n)).n)
            assert list(threads.map(run, range(6))) == [0, 1, 2, 3, 4, 5]

    def test_waiting_for_it_is_no_time_of_the_run(self, play):
        """The run's time starts when it has the interpreter."""
        waiting = Waiting()
        factory = borrowed_factory(waiting)
        rlm, _ = play("q -> a", "SUBMIT", interpreter=waiting, max_seconds=60)

        async def main() -> tuple[datetime, Any]:
            factory()
            run = asyncio.ensure_future(rlm.acall(q="?"))
            await asyncio.wait([run], timeout=0.3)
            free = datetime.now(UTC)
            factory.give_back()
            return free, await run

        free, result = asyncio.run(main())
        assert result.run.started_at >= free

    def test_a_cancelled_run_has_it_until_its_cell_has_ended(self, play):
        """The run itself gives the interpreter back once: no other run has it while a cell runs."""
        waiting = Waiting()
        rlm, _ = play(
            "q -> a",
            route(
                (lambda request: "first" in request.prompt, scripted(Action("", "wait"))),
                otherwise=scripted(Action("", "SUBMIT")),
            ),
            interpreter=waiting,
        )

        async def main() -> list[str]:
            first = asyncio.ensure_future(rlm.acall(q="first"))
            await asyncio.to_thread(waiting.begun.wait, 60)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            others = [asyncio.ensure_future(rlm.acall(q="next")) for _ in range(2)]
            done, _ = await asyncio.wait(others, timeout=0.5)
            assert not done
            waiting.released.set()
            return [result.a for result in await asyncio.gather(*others)]

        assert asyncio.run(main()) == ["x", "x"]
        assert waiting.most == 1

    @pytest.mark.parametrize("way", WAYS)
    def test_a_run_inside_the_run_that_has_it(self, play, borrowed, way):
        """An inner run with the same interpreter would deadlock, so the code gets an error."""
        settings = {"interpreter_factory": borrowed} if way == "configured" else {}
        args = [borrowed] if way == "called" else []

        def ask(question: str) -> str:
            """Runs the RLM itself on a question."""
            return str(rlm(*args, text=question))

        rlm, _ = play(
            "text -> n: str",
            "try:\n    ask('x')\nexcept Exception as error:\n    SUBMIT(str(error))",
            interpreter=borrowed if way == "once" else None,
            tools=[ask],
        )
        with dspy.context(**settings):
            assert "one interpreter cannot do both" in rlm(*args, text="").n

    @pytest.mark.parametrize("way", WAYS)
    def test_sub_runs_do_not_take_it(self, borrowed, kept, way):
        """Sub-runs get their own sandbox instead of the caller's interpreter."""
        root = scripted(Action("", "mine = 1\nSUBMIT(sub_rlm('t -> n: int', t='abc')['n'])"))
        child = scripted(Action("", "SUBMIT(len(t) + ('mine' in globals()))"))
        settings = {"interpreter_factory": borrowed} if way == "configured" else {}
        args = [borrowed] if way == "called" else []
        with PolicyServer({"root": root, "child": child}) as server:
            once = borrowed if way == "once" else None
            rlm = RLM("text -> n: int", sub_lm=server.lm("child"), interpreter=once, pool=kept)
            with dspy.context(lm=server.lm("root"), **settings):
                assert rlm(*args, text="").n == 3

    def test_copies_share_it_and_pickles_refuse_it(self, borrowed):
        """Copies share a borrowed interpreter; pickling it is refused, and the message names the alternative."""
        rlm = RLM("q -> a", interpreter=borrowed)
        assert factory_of(copy.deepcopy(rlm)._config) is factory_of(rlm._config)
        with pytest.raises(pickle.PicklingError, match="Pass an interpreter_factory"):
            pickle.dumps(rlm)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"interpreter": dspy.LocalInterpreter}, "interpreter must be a CodeInterpreter"),
            ({"interpreter_factory": 3}, "function without arguments"),
            ({"interpreter": "python", "interpreter_factory": dict}, "not both"),
        ],
    )
    def test_what_is_no_interpreter(self, options, message):
        """A value that is not an interpreter is refused by the constructor."""
        with pytest.raises(SignatureError, match=message):
            RLM("q -> a", **options)

    def test_an_input_may_be_called_interpreter(self, play):
        """`interpreter=` is an input if the signature has a field of this name, and only then."""
        rlm, _ = play("interpreter -> a", "SUBMIT(interpreter)")
        assert rlm(interpreter="CPython").a == "CPython"
        rlm, _ = play("q -> a", "SUBMIT(q)")
        with pytest.raises(InputError, match="'interpreter' is not an input"):
            rlm(q="", interpreter="CPython")
        with pytest.raises(SignatureError, match="a call's own option"):
            RLM("interpreter_factory -> a")


class TestFactories:
    def test_the_host_can_end_while_one_is_shut_down(self, play):
        """The host can exit while a foreign interpreter waits for a cell that never ends."""
        waiting = Waiting()
        shut_down = threading.Event()

        def shutdown() -> None:
            shut_down.set()
            waiting.released.wait(60)

        waiting.shutdown = shutdown
        rlm, _ = play("q -> a", "wait", interpreter_factory=lambda: waiting)

        async def main() -> None:
            run = asyncio.ensure_future(rlm.acall(q="?"))
            await asyncio.to_thread(waiting.begun.wait, 60)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run

        asyncio.run(main())
        assert shut_down.wait(60)
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("rlm-")]
        waiting.released.set()

        assert "rlm-cancel" in {thread.name for thread in ours}
        assert all(thread.daemon for thread in ours if thread.name in ("rlm-cancel", "rlm-sandbox"))

    def test_for_one_call(self, play, noting):
        """A factory for one call precedes the module's own, is called for each run, and its rules are in the prompt."""
        rlm, server = play("text -> n: int", SUBMIT_LENGTH, interpreter_factory=_nothing)

        assert rlm(interpreter_factory=noting, text="ab").n == 2
        assert asyncio.run(rlm.acall(interpreter_factory=noting, text="ab")).n == 2
        assert (noting.made, noting.ended) == (2, 2)
        prompt = server.requests[0].messages[0].text
        assert noting.execution_instructions in prompt
        assert "WebAssembly" not in prompt

    def test_ours_by_name_is_ours_whole(self, play, noting):
        """Naming our interpreter selects our sandbox, handles included, over the configured one."""
        marker = Thing()

        def make() -> Thing:
            """Creates a `Thing`."""
            return marker

        def is_it(thing: Any) -> bool:
            """Checks that it is the identical object."""
            return thing is marker

        rlm, _ = play(
            "text -> same: bool",
            "SUBMIT(is_it(make()))",
            tools=[make, is_it],
            types=[dspy_rlm.HandleType(Thing, lambda thing: "a thing")],
            interpreter_factory=noting,
        )
        with dspy.context(interpreter_factory=noting):
            assert rlm(interpreter_factory=SandboxInterpreter, text="").same is True
        assert noting.made == 0

    def test_sub_runs_use_it_too(self, noting):
        """A run's factory makes the interpreters of the runs below it."""
        root = scripted(Action("", "SUBMIT(sub_rlm('t -> n: int', t='abc')['n'])"))
        child = scripted(Action("", "SUBMIT(len(t))"))
        with PolicyServer({"root": root, "child": child}) as server:
            rlm = RLM("text -> n: int", sub_lm=server.lm("child"))
            with dspy.context(lm=server.lm("root")):
                assert rlm(interpreter_factory=noting, text="").n == 3
        assert (noting.made, noting.ended) == (2, 2)

    def test_a_configured_one_that_is_none(self, play):
        """A configured value that is not an interpreter is an error before any LM call."""
        rlm, server = play("q -> a", "SUBMIT(q)")
        with (
            dspy.context(interpreter_factory="python"),
            pytest.raises(SignatureError, match="function without arguments"),
        ):
            rlm(q="")
        assert not server.requests

    def test_one_that_fails(self, play):
        """The error of a failing factory reaches the caller unchanged."""
        rlm, server = play("q -> a", "SUBMIT(q)")
        with pytest.raises(CodeInterpreterError, match="nothing here"):
            rlm(interpreter_factory=_nothing, q="")
        assert not server.requests


# A program as people have it: nothing in it knows of ours.
PROGRAM = """
import os, sys
import dspy
from dspy import RLM

def shout(text: str) -> str:
    return text.upper()

lm = dspy.LM("openai/root", api_base=sys.argv[1], api_key="none", cache=False)
dspy.configure(lm=lm)
rlm = RLM("transcript, question -> answer: str", max_iterations=10, tools=[shout], verbose=False)
result = rlm(transcript="a talk about sleep", question="What about?")
print(result.answer, len(result.trajectory), type(rlm).__module__, dspy.RLM is RLM)
"""


class TestInstall:
    def test_dspy_rlm_is_ours_until_it_is_not(self):
        """`install` replaces `dspy.RLM` in all places from which it is imported."""
        theirs = dspy.RLM
        dspy_rlm.install()
        try:
            from dspy import RLM as first  # noqa: N811
            from dspy.predict import RLM as second  # noqa: N811
            from dspy.predict.rlm import RLM as third  # noqa: N811
        finally:
            dspy_rlm.uninstall()

        assert first is second is third is RLM
        assert dspy.RLM is dspy.predict.RLM is theirs is not RLM

    def test_a_program_that_cannot_be_edited(self, tmp_path):
        """A program runs unchanged, with its arguments."""
        (tmp_path / "program.py").write_text(PROGRAM)
        player = scripted(
            Action("", "print(len(transcript))"), Action("", "SUBMIT(shout(transcript[-5:]))")
        )
        with PolicyServer({"root": player}) as server:
            ended = run("program.py", server.base_url, folder=tmp_path)

        assert ended.stdout.split() == ["SLEEP", "2", "dspy_rlm.rlm", "True"], ended.stderr

    def test_a_module_that_cannot_be_edited(self, tmp_path):
        """`dspy-rlm run -m` runs a module as Python's own `-m` does."""
        (tmp_path / "program.py").write_text(
            "import sys, dspy\nprint(__name__, dspy.RLM.__module__, *sys.argv[1:])"
        )
        ended = run("-m", "program", "one", "-m", folder=tmp_path)

        assert ended.stdout.split() == ["__main__", "dspy_rlm.rlm", "one", "-m"], ended.stderr

    def test_its_errors_are_its_own(self, tmp_path, monkeypatch, capsys, request):
        """Errors of the program are printed as by Python, with Python's exit codes."""
        (tmp_path / "fails.py").write_text("import dspy\nraise KeyError('mine')")
        (tmp_path / "exits.py").write_text("raise SystemExit(7)")

        (tmp_path / "stopped.py").write_text("raise KeyboardInterrupt")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", list(sys.argv))
        monkeypatch.setattr(sys, "path", list(sys.path))
        request.addfinalizer(dspy_rlm.uninstall)

        assert main(["run", "fails.py"]) == 1
        text_of_error = capsys.readouterr().err
        assert text_of_error.endswith("KeyError: 'mine'\n")
        assert text_of_error.count("File ") == 1
        with pytest.raises(SystemExit) as exited:
            main(["run", "exits.py"])
        assert exited.value.code == 7
        assert main(["run", "stopped.py"]) == 130
        assert "KeyboardInterrupt" in capsys.readouterr().err
        assert main(["run", "nowhere.py"]) == 10
        assert "no file 'nowhere.py'" in capsys.readouterr().err


class TestFlex:
    @pytest.mark.filterwarnings("ignore:Passing OpenAI-style")  # DSPy's facade does
    def test_dspys_facade_builds_ours_when_it_is_installed(self):
        """DSPy's own modules use the installed class too."""
        root = scripted(Action("", "import dspy\nSUBMIT(dspy.RLM('t -> n: int')(t='abcd').n)"))
        child = scripted(Action("", "SUBMIT(len(t))"))
        theirs = dspy.RLM
        dspy_rlm.install()
        try:
            with PolicyServer({"root": root, "child": child}) as server:
                outer = theirs(
                    "text -> n: int",
                    sub_lm=server.lm("child"),
                    interpreter_factory=SandboxInterpreter,
                )
                with dspy.context(lm=server.lm("root")):
                    assert outer(text="").n == 4
        finally:
            dspy_rlm.uninstall()


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `dspy-rlm run` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "dspy_rlm.cli.main", "run", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Answering:
    """A predictor that repeats fixed answers in order. It accepts exactly the arguments that DSPy passes."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self._answers = itertools.cycle(answers)

    def __call__(
        self, *, variables_info: str, repl_history: str, iteration: str = "", signature: Any = None
    ) -> dspy.Prediction:
        return dspy.Prediction(**next(self._answers))

    async def acall(self, **inputs: Any) -> dspy.Prediction:
        return self(**inputs)


class Thing:
    """An object that can only cross as a handle."""


def abs_of(n: int) -> int:
    """The absolute value."""
    return abs(n)


def _nothing() -> dspy.LocalInterpreter:
    raise CodeInterpreterError("nothing here")


def _in_this_context(work):
    """Returns the work, run with this thread's DSPy settings in any thread."""
    settings = dspy.settings.copy()

    def call(item):
        with dspy.context(lm=settings.lm, adapter=settings.adapter):
            return work(item)

    return call
