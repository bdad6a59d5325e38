"""Sessions whose process ends: recovery, and its bounds."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import threading

import pytest
from session_cells import (
    MEBIBYTE,
    echo,
    output,
    when,
)

from sandbox_runtime import (
    CheckpointError,
    Completed,
    Failed,
    HandleType,
    Limits,
    SandboxDiedError,
    SandboxStartError,
    Session,
    SessionClosedError,
    Submitted,
    ValueType,
    open_session,
)
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.open import ready_engine


class Deadly:
    """A value whose process is killed each time that it is about to be sent, some times."""

    def __init__(self, ends: int) -> None:
        self._ends = ends
        self.session: Session | None = None
        self.rule = ValueType(Deadly, lambda value: value.plain())

    def plain(self) -> str:
        """Kills the process, and returns what crosses."""
        if self.session is not None and self._ends > 0:
            self._ends -= 1
            os.kill(self.session.pid, signal.SIGKILL)
        return "sent"


# Ends the process when it is deleted.
TRAP = """
class Trap:
    def __del__(self):
        import ctypes; ctypes.string_at(2**31, 10)
x = Trap()
"""


class Kept:
    """A value that stays on the host."""


AS_HANDLE = HandleType(Kept, preview=lambda kept: "a kept thing")


@pytest.fixture(scope="module")
def _mortal():
    with open_session(limits=Limits(memory_bytes=256 * MEBIBYTE)) as shared:
        yield shared


class TestDeath:
    """If the process dies, the session continues in another one, from the state before that cell."""

    def kill(self, session):
        os.kill(session.pid, signal.SIGKILL)

    def check_healed(self, session, result):
        assert isinstance(result, Failed)
        assert (result.error_type, result.state_lost) == ("SandboxDiedError", False)
        assert result.message.startswith("The sandbox ended: ")
        assert result.message.endswith("with everything as it was before this cell.")
        assert output(session, "given, made, echo(1)") == "([1], 2, 1)\n"
        assert session.run_cell("SUBMIT(answer=1)") == Submitted({"answer": 1})

    def prepare(self, session, started):
        """Registers the tools and outputs, and binds the variables."""
        tools = {"echo": echo, "started": started, "die": lambda: self.kill(session)}
        session.register(tools, {"answer": "int"})
        session.assign("given", [1])
        assert isinstance(session.run_cell("made = 2"), Completed)
        return session

    @pytest.fixture
    def mortal(self, _mortal, started):
        """A session with variables, tools and outputs, whose process the tests kill; they share it."""
        return self.prepare(_mortal, started)

    @pytest.fixture
    def own_mortal(self, opened, started):
        """Such a session for a test that loses its state, or has cells that cannot be repeated."""
        return self.prepare(opened(limits=Limits(memory_bytes=256 * MEBIBYTE)), started)

    def test_when_idle(self, mortal):
        """If an idle process is killed, the next cell runs as if nothing had happened."""
        before = mortal.restarts
        self.kill(mortal)

        assert output(mortal, "given, made, echo(1)") == "([1], 2, 1)\n"
        assert mortal.restarts == before + 1

    def test_with_other_tools_than_its_cells_had(self, mortal):
        """A cell is replayed with the tools, the outputs and the rules for values that it had, and leaves the newest."""
        mortal.register({"old": lambda x: x + 1}, {"first": "int"}, types=[AS_HANDLE])
        mortal.assign("kept", Kept())
        code = "try: got = old(1)\nexcept NameError: got = 'no such tool'\nimport inspect\n"
        assert output(mortal, f"{code}params = str(inspect.signature(SUBMIT))") == ""
        params = output(mortal, "params")
        mortal.register({"new": lambda: 5}, {"second": "int"}, types=())
        assert output(mortal, "new()") == "5\n"
        self.kill(mortal)

        assert output(mortal, "got, new(), 'old' in globals()") == "(2, 5, False)\n"
        assert output(mortal, "params") == params
        assert "a kept thing" in output(mortal, "kept")
        assert mortal.run_cell("SUBMIT(second=1)") == Submitted({"second": 1})

    def test_with_variables_of_types_that_have_no_rule_any_more(self, own_mortal):
        """A session that starts afresh has its input variables too, whatever is registered now."""
        own_mortal.register({}, types=[AS_HANDLE])
        own_mortal.assign("kept", Kept())
        own_mortal.register({}, types=())
        own_mortal.run_cell(TRAP)
        own_mortal.run_cell("x = None")
        assert own_mortal.run_cell("x = None").state_lost

        assert "a kept thing" in output(own_mortal, "kept")

    def test_after_a_cell_that_was_interrupted(self, mortal, started):
        """Its variables are as it left them: it is not run again, which would end elsewhere or not at all."""
        thread = when(started.event, mortal.interrupt)
        stopped = mortal.run_cell("count = 0\nstarted()\nwhile True: count += 1")
        thread.join()
        assert isinstance(stopped, Failed)
        count = output(mortal, "count")
        self.kill(mortal)

        assert output(mortal, "made, count") == f"(2, {count.strip()})\n"

    def test_in_mid_cell(self, mortal, started):
        """The result of the interrupted cell says that the process died."""
        thread = when(started.event, self.kill, mortal)

        result = mortal.run_cell("started()\nwhile True: pass")

        thread.join()
        self.check_healed(mortal, result)

    def test_in_a_tool_call(self, mortal):
        """The answer to the call of a dead process is dropped."""
        self.check_healed(mortal, mortal.run_cell("die()"))

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        "code",
        [
            "import ctypes; ctypes.string_at(2**31, 10)",
            "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        ],
    )
    def test_by_its_own_hand(self, mortal, code):
        """A cell that crashes the interpreter loses only its own effects."""
        self.check_healed(mortal, mortal.run_cell(code))

    def test_again_and_again(self, mortal):
        """A session can recover any number of times."""
        for _ in range(2):
            self.check_healed(mortal, mortal.run_cell("die()"))

    def test_a_state_that_kills(self, own_mortal):
        """If cell after cell dies, the state is the cause and is discarded; the inputs stay."""
        own_mortal.run_cell(TRAP)

        first, second = own_mortal.run_cell("x = None"), own_mortal.run_cell("x = None")

        assert (first.state_lost, second.state_lost) == (False, True)
        assert second.message.endswith("everything else that cells defined is gone.")
        assert output(own_mortal, "given, 'made' in globals(), 'x' in globals()") == (
            "([1], False, False)\n"
        )

    def test_assigning_to_a_dead_process(self, mortal):
        """An assignment starts another process first."""
        self.kill(mortal)

        mortal.assign("more", 1)

        assert output(mortal, "made, more") == "(2, 1)\n"

    def test_registering_at_a_dead_process(self, mortal):
        """Registering starts another process first, which has the new tools."""
        self.kill(mortal)

        mortal.register({"echo": lambda x: -x}, {"other": "int"})

        assert output(mortal, "given, made, echo(1)") == "([1], 2, -1)\n"
        assert mortal.run_cell("SUBMIT(other=1)") == Submitted({"other": 1})

    def test_killed_while_it_is_told_of_tools(self, mortal):
        """A process that is killed while tools are registered is replaced, and nothing is lost."""
        before = mortal.restarts
        os.kill(mortal.pid, signal.SIGSTOP)  # so that it receives the request, but cannot answer
        thread = threading.Timer(0.2, self.kill, [mortal])
        thread.start()

        mortal.register({"echo": lambda x: -x})

        thread.join()
        assert output(mortal, "given, made, echo(1)") == "([1], 2, -1)\n"
        assert mortal.restarts == before + 1

    @pytest.mark.nightly  # waits for the limit of silence
    def test_a_process_that_stands_still(self, opened):
        """Writing to a full pipe has a timeout: the process is replaced, and the value sent again."""
        session = opened(limits=Limits(start_seconds=3))
        session.run_cell("x = 1")
        os.kill(session.pid, signal.SIGSTOP)

        session.assign("large", "x" * 20_000_000)

        assert output(session, "x, len(large)") == "(1, 20000000)\n"
        assert session.restarts == 1

    def test_an_engine_that_is_gone(self, tmp_path):
        """If no other process can be started, the session is closed with the reason."""
        engine = ready_engine()
        folder = tmp_path / "engine"
        shutil.copytree(engine.folder, folder)
        with Session(dataclasses.replace(engine, folder=folder), Limits()) as session:
            (folder / "boot.pages").unlink()
            self.kill(session)

            with pytest.raises(SandboxDiedError, match="could not be started again: Cannot read"):
                session.run_cell("1")
            assert session.closed

    def test_closed_while_it_heals(self, deno_children):
        """Closing a session during its recovery ends the new process too."""

        @dataclasses.dataclass(frozen=True)
        class Trap(Engine):
            def files(self):
                if sessions:
                    sessions[0].close()
                return super().files()

        sessions: list[Session] = []
        before = deno_children()
        found = ready_engine()
        session = Session(Trap(found.deno, found.folder), Limits())
        sessions.append(session)
        self.kill(session)

        with pytest.raises(SessionClosedError):
            session.run_cell("1")

        assert deno_children() == before

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("ends", [1, 2])
    def test_killed_while_it_heals(self, deno_children, ends):
        """A process that is killed during recovery is replaced, and nothing is lost."""
        left = []

        @dataclasses.dataclass(frozen=True)
        class Deadly(Engine):
            def files(self):
                if left:
                    left.pop()
                    for pid in deno_children() - before:
                        os.kill(pid, signal.SIGKILL)
                return super().files()

        before = deno_children()
        found = ready_engine()
        with Session(Deadly(found.deno, found.folder), Limits()) as session:
            session.run_cell("x = 1")
            left += [None] * ends
            self.kill(session)

            assert output(session, "x") == "1\n"
            assert not left

    @pytest.mark.parametrize("ends", [1, 2])
    def test_killed_while_it_gets_a_value(self, opened, ends):
        """A process that is killed while a variable is bound is replaced, and nothing is lost."""
        deadly = Deadly(ends)
        session = opened(types=[deadly.rule])
        session.run_cell("x = 1")
        deadly.session = session

        session.assign("value", deadly)

        assert output(session, "x, value") == "(1, 'sent')\n"
        assert session.restarts == ends

    def test_killed_again_and_again_while_it_gets_a_value(self, opened):
        """A kill at each attempt is an error, and ends the session."""
        deadly = Deadly(3)
        session = opened(types=[deadly.rule])
        session.run_cell("x = 1")
        deadly.session = session

        with pytest.raises(SandboxDiedError):
            session.assign("value", deadly)

        assert session.closed

    @pytest.mark.nightly  # kills at some hundred moments
    def test_killed_while_random_numbers_start(self, opened):
        """The seed is set whenever the process is killed, and nothing is lost."""
        session = opened()
        session.run_cell("import random; x = 1")
        for moment in range(100):
            thread = threading.Timer(moment / 20_000, self.kill, [session])
            thread.start()
            session.seed("7")
            thread.join()
            session.run_cell("first = random.random()")
            session.seed("7")
            assert output(session, "x, first == random.random()") == "(1, True)\n"

    def test_killed_while_it_opens(self, deno_children):
        """A process that is killed at any point of its start is a start error."""

        class Deadly(dict):
            def __iter__(self):
                for pid in deno_children() - before:
                    os.kill(pid, signal.SIGKILL)
                return super().__iter__()

        before = deno_children()

        with pytest.raises(SandboxStartError, match="did not come up"):
            open_session(tools=Deadly(echo=echo))

        assert deno_children() == before

    def test_what_an_assignment_finds_lost(self, opened):
        """A loss that an assignment detects is reported by the next cell."""
        session = opened()
        session.run_cell("import time; print(time.time())")
        self.kill(session)

        session.assign("x", 1)

        result = session.run_cell("x")
        notice, last = result.output[: result.own.head], result.output[result.own.head :]
        assert notice.startswith("[The sandbox ended between two cells")
        assert (notice[-2:], last) == ("]\n", "1\n")
        assert session.run_cell("x") == Completed("1\n")

    def test_a_cell_that_prints_something_else(self, own_mortal):
        """A replayed cell with different output is named in the notice; the state is not lost."""
        own_mortal.run_cell("import time; print(time.time())")

        result = own_mortal.run_cell("die()")

        assert "printed something else than the first time: 2." in result.message
        assert not result.state_lost
        assert output(own_mortal, "made") == "2\n"

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("code", ["given", "1 / 0", "SUBMIT(answer=1)"])
    def test_a_loss_between_two_cells(self, own_mortal, code):
        """The next result reports it, however that cell ends, and only that one."""
        own_mortal.run_cell("import time; echo(time.time())")  # cannot be called twice
        self.kill(own_mortal)
        own_mortal.assign("more", 1)

        first, second = own_mortal.run_cell(code), own_mortal.run_cell(code)

        assert first.output.startswith("[The sandbox ended between two cells")
        assert (first.state_lost, second.state_lost) == (True, False)
        assert output(own_mortal, "given, more, 'made' in globals()") == "([1], 1, False)\n"

    def test_the_callers_interrupt(self, opened, started):
        """Ctrl-C in the thread that runs the cell closes the session and propagates."""
        session = opened(tools={"started": started})
        main = threading.main_thread().ident
        thread = when(started.event, signal.pthread_kill, main, signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            session.run_cell("started()\nwhile True: pass")

        thread.join()
        assert session.closed


class TestBoundsOfHealing:
    """Memory and time for recovery are bounded; beyond the bounds the session reports the loss."""

    @pytest.fixture
    def unsavable(self, opened):
        """A session with an object that no checkpoint can contain."""
        session = opened(tools={"give": lambda size: "x" * size})
        session.run_cell("from pyodide.ffi import create_proxy\nheld = create_proxy(lambda: 1)")
        with pytest.raises(CheckpointError):
            session.checkpoint()
        return session

    def test_answers_that_are_too_large(self, unsavable):
        """They are not recorded: the next crash loses the state, and the notice has the reason."""
        unsavable.assign("given", 7)
        for number in range(3):
            result = unsavable.run_cell(f"x{number} = len([give(10_000_000) for _ in range(3)])")
            assert isinstance(result, Completed)
        os.kill(unsavable.pid, signal.SIGKILL)

        result = unsavable.run_cell("print(given, 'x0' in globals())")

        assert result.state_lost
        assert "7 False" in result.output
        assert "more than 64 MiB would have to be kept to run its cells again" in result.output

    def test_one_cell_with_too_large_answers(self, opened):
        """A checkpoint replaces the missing record: nothing is lost."""
        session = opened(tools={"give": lambda size: "x" * size})
        assert isinstance(
            session.run_cell("x = len([give(10_000_000) for _ in range(8)])"), Completed
        )
        os.kill(session.pid, signal.SIGKILL)

        result = session.run_cell("x")

        assert (result.output, result.state_lost) == ("8\n", False)
