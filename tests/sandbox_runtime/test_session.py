"""Sessions on the real engine: cells of every kind, limits, host tools, and all ways to die.

Most tests share a session; those that end processes or need other limits open their own.
"""

from __future__ import annotations

import contextvars
import dataclasses
import gc
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from sandbox_runtime import (
    CheckpointError,
    Completed,
    Failed,
    FrontedTool,
    Limits,
    SandboxDiedError,
    SandboxStartError,
    Session,
    SessionBusyError,
    SessionClosedError,
    Submitted,
    ValueCrossingError,
    open_session,
)
from sandbox_runtime.engine import assets
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.open import ready_engine

PROJECT = Path(assets.__file__).parents[2]

MEBIBYTE = 2**20

# The limit is met at once, and the cell has all the time that it needs to stop.
HASTY = Limits(cell_seconds=0.3, grace_seconds=30)

# Nothing of the host's is left after this; the promise is for a killed host.
GONE_SECONDS = 2.0

UNINTERRUPTIBLE = """
while True:
    try:
        while True: pass
    except BaseException: pass
"""


def echo(*args, **kwargs):
    """Gives back what it gets."""
    return args[0] if len(args) == 1 and not kwargs else (args, kwargs)


def fail(kind="ValueError", text="no"):
    raise {**globals()["__builtins__"], "QuotaError": QuotaError}[kind](text)


class QuotaError(OSError):
    pass


TOOLS = {"echo": echo, "fail": fail, "upper": str.upper}


@pytest.fixture(scope="module")
def session():
    """One session for all tests that leave it as usable as it was; checked by what they do next."""
    with open_session(tools=TOOLS) as shared:
        yield shared


@pytest.fixture(scope="module")
def rough():
    """A session for cells that may cost it its process: it is as good as new afterwards."""
    with open_session(limits=Limits(memory_bytes=256 * MEBIBYTE), tools=TOOLS) as shared:
        yield shared


@pytest.fixture
def wrecked(rough):
    """The same for cells that break what later cells use: its process is replaced after the test."""
    yield rough
    os.kill(rough.pid, signal.SIGKILL)
    rough.run_cell("")


@pytest.fixture
def given(session):
    """Gives the shared session other tools and outputs for the time of a test."""

    def register(tools=None, outputs=None):
        session.register(tools or {}, outputs)
        return session

    yield register
    session.register(TOOLS)


@pytest.fixture(scope="module")
def hasty():
    """A session whose cells are interrupted soon."""
    with open_session(limits=HASTY) as shared:
        yield shared


def output(session, code):
    """What a cell printed that ran to its end."""
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output


def failure(session, code):
    """How a cell failed, in a session that keeps its state."""
    pid = session.pid
    result = session.run_cell(code)
    assert isinstance(result, Failed), result
    assert (result.state_lost, session.pid) == (False, pid)
    return result


def shown(result):
    """A traceback, whichever cell it is of."""
    return re.sub(r"<cell \d+>", "<cell>", result.traceback)


class TestCells:
    """A cell ends in one of three ways."""

    def test_completed(self, session):
        """What it printed, and its last value."""
        assert session.run_cell("print('a')\n1 + 1") == Completed("a\n2\n")

    def test_submitted(self, session):
        """The outputs, and what was printed before."""
        assert session.run_cell("print('a')\nSUBMIT({'x': {1, 2}})") == Submitted(
            {"output": {"x": {1, 2}}}, "a\n"
        )

    def test_failed(self, session):
        """The exception, and a traceback with the cell's own lines; exactly this text."""
        result = failure(session, "def f(x):\n    return 1 / x\nprint('a')\nf(0)")

        assert (result.error_type, result.message) == ("ZeroDivisionError", "division by zero")
        assert result.output == "a\n"
        assert shown(result) == (
            "Traceback (most recent call last):\n"
            '  File "<cell>", line 4, in <module>\n'
            "    f(0)\n"
            "    ~^^^\n"
            '  File "<cell>", line 2, in f\n'
            "    return 1 / x\n"
            "           ~~^~~\n"
            "ZeroDivisionError: division by zero\n"
        )

    def test_a_syntax_error(self, session):
        """Python's own text."""
        assert shown(failure(session, "x = (\n")) == (
            "  File \"<cell>\", line 1\n    x = (\n        ^\nSyntaxError: '(' was never closed\n"
        )

    def test_state_stays(self, session):
        """Variables, functions and imports, also of cells that failed."""
        session.run_cell("import math\nkept = 41\n1 / 0")

        assert output(session, "math.floor(kept + 1.5)") == "42\n"

    def test_await_at_the_top(self, session):
        """Also with tasks that run side by side."""
        code = """
import asyncio
async def one(n):
    await asyncio.sleep(0.001)
    return n
await asyncio.gather(one(1), one(2))
"""
        assert output(session, code) == "[1, 2]\n"

    def test_asyncio_run(self, session):
        """What scripts do works, too."""
        code = "import asyncio\nasync def f(): return 42\nasyncio.run(f())"

        assert output(session, code) == "42\n"

    def test_the_error_of_an_awaited_task(self, session):
        """It is raised in the cell like any other."""
        code = """
import asyncio
async def bad():
    await asyncio.sleep(0)
    raise LookupError("lost")
await asyncio.gather(bad(), asyncio.sleep(0))
"""

        assert failure(session, code).message == "lost"

    def test_code_with_lone_surrogates(self, session):
        """Whatever text an LM's reply was decoded to; they arrive as escapes."""
        assert output(session, "'a\ud800b'") == "'a\\ud800b'\n"

    def test_a_large_cell(self, session):
        """Code of a megabyte is code."""
        assert output(session, f"x = {'a' * 10**6!r}\nlen(x)") == "1000000\n"


EXCEPTIONS = {
    "KeyboardInterrupt": "raise KeyboardInterrupt('x')",
    "SystemExit": "import sys; sys.exit(3)",
    "GeneratorExit": "raise GeneratorExit",
    "BaseException": "raise BaseException(object())",
    "CancelledError": "import asyncio; raise asyncio.CancelledError",
    "StopIteration": "raise StopIteration(b'x')",
    "StopAsyncIteration": "raise StopAsyncIteration",
    "OwnError": "class OwnError(BaseException): pass\nraise OwnError({1: {2}})",
    "_SubmitSignal": "class _SubmitSignal(BaseException): pass\nraise _SubmitSignal",
    "UnicodeEncodeError": r"'\ud800'.encode()",
    "KeyError": r"{}['\ud800']",
    "RecursionError": "def f(): f()\nf()",
    "ExceptionGroup": "raise ExceptionGroup('g', [ValueError(n) for n in range(100)])",
    "EvilStr": "class EvilStr(Exception):\n def __str__(self): raise SystemExit\nraise EvilStr",
    "EvilRepr": "class EvilRepr(Exception):\n def __repr__(self): 1 / 0\nraise KeyError(EvilRepr())",
    "ModuleNotFoundError": "import numpy",
    "MemoryError": "bytearray(2**31 - 1)",
    "OverflowError": "bytearray(10**20)",
    "TimeoutError": "import asyncio\nawait asyncio.wait_for(asyncio.Event().wait(), 0.001)",
}


class TestExceptions:
    """A cell may raise anything at all; it is data, and the session goes on."""

    @pytest.mark.parametrize("name", EXCEPTIONS)
    def test_it_is_reported(self, session, name):
        """Under its name, in a session that keeps its process and state."""
        result = failure(session, EXCEPTIONS[name])

        assert result.error_type == ("KeyError" if name == "EvilRepr" else name)
        assert output(session, "1 + 1") == "2\n"

    def test_sys_exit_says_what_to_do(self, session):
        """A cell cannot exit."""
        assert failure(session, "exit(1)").message == (
            "a cell cannot exit the REPL; call SUBMIT(...) to finish"
        )

    def test_a_forgotten_await_is_noted(self, session):
        """The note names the coroutine, and no file of ours."""
        assert output(session, "import asyncio\nasyncio.sleep(0)\nNone") == (
            "[coroutine 'sleep' was never awaited]\n"
        )

    def test_errors_in_groups_show_no_frames_of_ours(self, session):
        """Each part has the cell's lines only."""
        code = """
import asyncio
async def work(): fail()
async with asyncio.TaskGroup() as group: group.create_task(work())
"""
        result = failure(session, code)

        assert "driver.py" not in result.traceback
        assert "ValueError: no" in result.traceback

    def test_a_deep_structure(self, rough):
        """Deep recursion in C may cost the process; the session is there again for the next cell."""
        rough.run_cell("x = []\nfor _ in range(100_000): x = [x]\nrepr(x)")

        assert output(rough, "1 + 1") == "2\n"

    @pytest.mark.parametrize(
        "code",
        [
            "import json; json.dumps = json.loads = None",
            "import time; time.monotonic = None",
            "import pickle; pickle.loads = None",
            "import builtins; builtins.len = builtins.isinstance = builtins.str = None",
            "import sys; sys.stdout = sys.stderr = None",
            "import sys; sys.modules.clear()",
            "import asyncio; asyncio.all_tasks = None",
            "import linecache; linecache.cache = None",
            "import signal; signal.signal = None",
            "import sys; sys.setrecursionlimit(40)",
            "import gc; gc.freeze(); gc.disable()",
            "globals().clear()",
        ],
    )
    def test_vandalism(self, wrecked, code):
        """What a cell breaks of Python costs its session's state at worst: the session heals."""
        wrecked.run_cell(code)
        wrecked.run_cell("1 / 0")

        assert output(wrecked, "print(echo([1]))") == "[1]\n"
        assert wrecked.run_cell("SUBMIT(1)") == Submitted({"output": 1})

    @pytest.mark.parametrize("name", ["json.dumps", "json.loads", "pickle.loads", "time.monotonic"])
    def test_functions_that_the_driver_uses(self, session, name):
        """Replacing one costs nothing at all."""
        module = name.partition(".")[0]
        session.run_cell(f"import {module}\nreal = {name}\n{name} = None")
        pid = session.pid

        assert output(session, "echo([1])") == "[1]\n"
        assert session.run_cell(f"{name} = real\nSUBMIT(2)") == Submitted({"output": 2})
        assert session.pid == pid


class TestOutput:
    """Output is bounded, in order, and all of it is text."""

    def test_huge_output(self, session):
        """The first and last half of `output_chars`, and how much was left out."""
        printed = output(session, "print('a' * 50_000_000 + 'b' * 50_000_000)")

        assert printed == (
            "a" * 5000 + "\n... (99,990,001 characters omitted) ...\n" + "b" * 4999 + "\n"
        )

    def test_a_huge_last_value(self, session):
        """The same."""
        printed = output(session, "'a' * 50_000_000")

        assert "(49,990,003 characters omitted)" in printed
        assert len(printed) < 10_100

    def test_lone_surrogates(self, session):
        """They are written out as escapes."""
        assert output(session, r"print('a\ud800b'); '\udfff'") == "a\\ud800b\n'\\udfff'\n"

    def test_writes_to_the_file_descriptors(self, session):
        """They come after what Python printed, and never reach the pipe of the protocol."""
        code = "import os\nos.write(1, b'one\\n'); os.write(2, b'two \\xff\\n'); print('print')"

        assert output(session, code).endswith("print\none\ntwo \ufffd\n")

    def test_a_forged_frame(self, session):
        """It is text like any other: nobody inside can speak the protocol."""
        body = '{"jsonrpc":"2.0","id":1,"result":{}}'
        code = f"import os\nn = os.write(1, b'Content-Length: {len(body)}\\r\\n\\r\\n{body}')"

        assert output(session, code) == f"Content-Length: {len(body)}\r\n\r\n{body}"

    def test_endless_raw_writes(self, session):
        """They are bounded as well."""
        code = "import os\nfor _ in range(1000): n = os.write(1, b'x' * 100_000)"

        assert len(output(session, code)) < 10_100

    def test_nobody_answers(self, session):
        """`input` raises; the standard input is at its end."""
        assert failure(session, "input('?')").error_type == "RuntimeError"
        assert output(session, "import os; os.read(0, 10), open(0, closefd=False).read()") == (
            "(b'', '')\n"
        )

    def test_a_callback_left_behind_says_nothing(self, session):
        """It is dropped, which the cell says, and does no harm."""
        code = "import asyncio\nasyncio.get_event_loop().call_soon(print, 'x' * 100_000)\nNone"
        pid = session.pid

        assert "1 callback(s) of the event loop" in output(session, code)
        session.assign("between", 1)
        assert output(session, "between") == "1\n"
        assert session.pid == pid

    def test_background_tasks_are_cancelled(self, session):
        """A cell's tasks end with it, and the LM is told."""
        code = """
import asyncio
ticks = 0
async def tick():
    global ticks
    while True:
        await asyncio.sleep(0)
        ticks += 1
task = asyncio.create_task(tick())
await asyncio.sleep(0.01)
"""
        assert output(session, code) == (
            "\n[1 background task(s) were still running and are cancelled]\n"
        )
        assert output(session, "task.cancelled(), ticks > 0") == "(True, True)\n"


class TestTime:
    """A cell that works too long is interrupted; its variables stay."""

    @pytest.mark.parametrize(
        "code",
        [
            "while True: pass",
            "import time; time.sleep(1e6)",
            "import asyncio\nawait asyncio.Event().wait()",
            "import asyncio\nawait asyncio.sleep(1e6)",
            "import asyncio\nasyncio.run(asyncio.sleep(1e6))",
            "while True: print('x' * 1000)",
            "import re; re.match('(a+)+b', 'a' * 60)",
            "class Slow:\n    def __repr__(self):\n        while True: pass\nSlow()",
            "import asyncio\nasync def f():\n    while True: pass\nawait asyncio.gather(f())",
            "def forever():\n    while True: yield 1\nsum(forever())",
            "while True:\n    try: 1 / 0\n    except Exception: pass",
        ],
    )
    def test_a_cell_without_an_end(self, hasty, code):
        """Loops, sleeps, waits, prints for ever: an exception with a name of its own."""
        hasty.run_cell("kept = 1")

        result = failure(hasty, code)

        assert result.error_type == "CellTimeoutError"
        assert result.message == "the cell reached its time limit; its variables are kept"
        assert output(hasty, "kept") == "1\n"

    def test_where_it_was(self, hasty):
        """The traceback shows the line that ran."""
        result = failure(hasty, "import time\ndef wait():\n    time.sleep(1e6)\nwait()")

        assert shown(result) == (
            "Traceback (most recent call last):\n"
            '  File "<cell>", line 4, in <module>\n'
            "    wait()\n"
            "    ~~~~^^\n"
            '  File "<cell>", line 3, in wait\n'
            "    time.sleep(1e6)\n"
            "    ~~~~~~~~~~^^^^^\n"
            "CellTimeoutError: the cell reached its time limit; its variables are kept\n"
        )

    def test_output_until_then(self, hasty):
        """It is kept."""
        assert failure(hasty, "print('so far')\nwhile True: pass").output == "so far\n"

    def test_the_clock_stands_still_while_the_host_works(self, opened):
        """A tool may take longer than a cell."""
        waiting = threading.Event()
        session = opened(limits=HASTY, tools={"slow": lambda: waiting.wait(0.7)})

        assert output(session, "slow()") == "False\n"

    def test_calls_do_not_reset_the_clock(self, opened):
        """What the cell itself works between calls adds up."""
        session = opened(limits=HASTY, tools={"echo": echo})

        assert failure(session, "while True: echo(1)").error_type == "CellTimeoutError"

    @pytest.mark.parametrize("code", [UNINTERRUPTIBLE, "sum(range(10**18))"])
    def test_a_cell_that_cannot_be_interrupted(self, opened, code):
        """Its process ends; the session has another, with the input variables, and says so."""
        session = opened(limits=Limits(cell_seconds=0.3, grace_seconds=0.3), tools={"echo": echo})
        session.assign("given", {"a": 1})
        session.run_cell("own = 1; given['a'] = 2")
        pid = session.pid

        result = session.run_cell(code)

        assert isinstance(result, Failed)
        assert (result.error_type, result.state_lost) == ("CellTimeoutError", False)
        assert (
            "the cell ran 0.3 s of its own (Limits.cell_seconds) and did not stop" in result.message
        )
        assert result.message.endswith("with everything as it was before this cell.")
        assert session.pid != pid
        assert output(session, "given, own, echo(3)") == "({'a': 2}, 1, 3)\n"

    def test_its_output(self, opened):
        """What was heard of it is not lost."""
        limits = Limits(cell_seconds=0.3, grace_seconds=0.3, output_chars=20)

        result = opened(limits=limits).run_cell("print('heard' * 2)\n" + UNINTERRUPTIBLE)

        assert isinstance(result, Failed)
        assert result.output == "heardheard"

    def test_limits_of_centuries(self, opened):
        """A very large limit is as good as none."""
        assert output(opened(limits=Limits(cell_seconds=1e12, grace_seconds=1e12)), "1") == "1\n"


class TestMemory:
    """Past `memory_bytes` Python raises MemoryError, and the session goes on."""

    @pytest.fixture
    def small(self, opened):
        """A session with little memory."""
        return opened(limits=Limits(memory_bytes=128 * MEBIBYTE), tools=TOOLS)

    @pytest.mark.parametrize(
        "code",
        [
            "x = bytearray(10**9)",
            "x = []\nwhile True: x.append(bytearray(10**6))",
            "x = []\nwhile True: x.append(object())",
            "x = None\nwhile True: x = [x]",
            "x = {}\nwhile True: x[len(x)] = str(len(x))",
            "x = 'x'\nwhile True: x += x",
            "x = 1\nwhile True: x <<= 10**7",
        ],
    )
    def test_a_cell_that_allocates_for_ever(self, small, code):
        """Large pieces or small ones: an exception, and variables that stay."""
        small.run_cell("kept = 1")

        assert failure(small, code).error_type in ("MemoryError", "OverflowError")
        assert output(small, "kept, echo(2)") == "(1, 2)\n"

    def test_memory_can_be_had_again(self, small):
        """Once the cell's values are gone."""
        failure(small, "x = []\nwhile True: x.append(bytearray(10**6))")

        assert output(small, "del x\nlen(bytearray(40 * 10**6))") == "40000000\n"

    def test_a_variable_larger_than_the_memory(self, small):
        """It is refused before it is sent, with the limit's name."""
        with pytest.raises(ValueCrossingError, match=r"x takes 200,000,000 bytes.*memory_bytes"):
            small.assign("x", bytes(200_000_000))
        assert output(small, "1") == "1\n"

    def test_a_variable_that_does_not_fit(self, small):
        """The sandbox refuses it, and lives on."""
        with pytest.raises(ValueCrossingError, match="could not take x: MemoryError"):
            small.assign("x", bytes(120 * 10**6))
        assert output(small, "1") == "1\n"

    def test_a_value_that_is_too_large(self, opened):
        """Past `frame_bytes` the host would not listen; the cell is told which limit it is."""
        session = opened(limits=Limits(frame_bytes=10**6), tools={"echo": echo})
        session.assign("given", 1)

        result = session.run_cell("echo('x' * 2_000_000)")

        assert isinstance(result, Failed)
        assert not result.state_lost
        assert (
            "more than the 1,000,000 that one value may have (Limits.frame_bytes)" in result.message
        )
        assert session.restarts == 0
        assert output(session, "given") == "1\n"


class TestSubmit:
    """SUBMIT ends the run with the declared outputs."""

    def test_the_declared_fields(self, given):
        """By position or name; values keep their types."""
        session = given(outputs={"answer": "str", "when": "datetime.date"})

        result = session.run_cell("import datetime\nSUBMIT('a', when=datetime.date(2024, 1, 2))")

        import datetime

        assert result == Submitted({"answer": "a", "when": datetime.date(2024, 1, 2)})

    def test_a_wrong_call(self, given):
        """An error that says the right one; the cell may try again."""
        session = given(outputs={"answer": "str"})

        assert failure(session, "SUBMIT(result='a')").message == (
            "SUBMIT() has no field 'result', is missing 'answer'. Call SUBMIT(answer: str)."
        )
        assert session.run_cell("SUBMIT('a')") == Submitted({"answer": "a"})

    def test_no_fields(self, given):
        """A run without outputs ends with none."""
        session = given(outputs={})

        assert session.run_cell("SUBMIT()") == Submitted({})
        assert failure(session, "SUBMIT(1)").error_type == "TypeError"

    @pytest.mark.parametrize(
        ("code", "value"),
        [
            ("'x' * 50_000_000", "x" * 50_000_000),
            ("[b'', b'', b'x', b'']", [b"", b"", b"x", b""]),
            ("10**4000", 10**4000),
            (r"'\ud800' * 100_000", "\ud800" * 100_000),
            ("[float('inf'), None, True, -0.0]", [float("inf"), None, True, -0.0]),
            ("{n: {'n': n} for n in range(10_000)}", {n: {"n": n} for n in range(10_000)}),
        ],
        ids=["large", "empty parts", "long number", "surrogates", "odd numbers", "many"],
    )
    def test_values_arrive(self, session, code, value):
        """Whatever their size."""
        assert session.run_cell(f"SUBMIT({code})") == Submitted({"output": value})

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("object()", "SUBMIT['output'] is of type object, which cannot leave the sandbox; "),
            ("[1, {'when': len}]", "SUBMIT['output'][1]['when'] is of type builtin_function_"),
            ("10**5000", "SUBMIT['output'] is an integer of more than 4,200 digits, "),
        ],
        ids=["object", "place", "number"],
    )
    def test_values_that_cannot_leave(self, session, code, message):
        """The place, and what to do."""
        result = failure(session, f"SUBMIT({code})")

        assert result.error_type == "CannotSend"
        assert result.message.startswith(message)
        assert "codec.py" not in result.traceback

    def test_a_swallowed_submit(self, session):
        """It counts."""
        code = "try:\n    SUBMIT(1)\nexcept BaseException:\n    pass\nraise ValueError"

        assert session.run_cell(code) == Submitted({"output": 1})

    def test_submit_in_a_task(self, session):
        """From anywhere in the cell."""
        code = "import asyncio\nasync def f(): SUBMIT(1)\nawait asyncio.gather(f())"

        assert session.run_cell(code) == Submitted({"output": 1})


class TestTools:
    """Cells call functions of the host like their own."""

    @pytest.mark.parametrize(
        ("code", "printed"),
        [
            ("echo(1, [2], x={3}, y=None)", "((1, [2]), {'x': {3}, 'y': None})"),
            ("sorted([3, 1, 2], key=echo)", "[1, 2, 3]"),
            ("sorted(['b', 'A'], key=upper)", "['A', 'b']"),
            ("[upper(c) for c in 'ab']", "['A', 'B']"),
            ("{upper(c): echo(n) for n, c in enumerate('ab')}", "{'A': 0, 'B': 1}"),
            ("import re; re.sub('[ab]', lambda m: upper(m[0]), 'abc')", "'ABc'"),
            ("list(map(upper, (echo(c) for c in 'ab')))", "['A', 'B']"),
            ("(lambda: echo(echo(echo(1))))()", "1"),
            ("import asyncio\nasync def f(): return echo(1)\nawait f()", "1"),
            ("import functools; functools.reduce(lambda a, b: echo(a + b), range(5))", "10"),
            ("echo(b'raw'), echo(1.5), echo(None), echo((1, 2))", "(b'raw', 1.5, None, (1, 2))"),
            ("import datetime; echo(datetime.date(2024, 1, 2))", "datetime.date(2024, 1, 2)"),
            ("echo(10**4000) == 10**4000", "True"),
            (
                r"echo('\ud800') == '\ud800', echo('\ud800' * 10**5) == '\ud800' * 10**5",
                "(True, True)",
            ),
        ],
    )
    def test_calls(self, session, code, printed):
        """By position and name, from callbacks, comprehensions and coroutines."""
        assert output(session, code) == printed + "\n"

    def test_a_tool_runs_in_the_callers_thread_and_context(self, given):
        """Context variables of the caller are seen."""
        seen = contextvars.ContextVar("seen")
        seen.set("mine")
        session = given(tools={"where": lambda: (seen.get(), threading.get_ident())})

        assert output(session, "where()") == f"{('mine', threading.get_ident())}\n"

    @pytest.mark.parametrize(
        ("kind", "caught_as"),
        [
            ("ValueError", "ValueError"),
            ("QuotaError", "OSError"),
            ("TimeoutError", "OSError"),
            ("StopIteration", "StopIteration"),
            ("Exception", "RuntimeError"),
        ],
    )
    def test_errors_come_under_their_own_names(self, session, kind, caught_as):
        """And can be caught as the builtin that they derive from."""
        result = failure(session, f"fail({kind!r}, 'the text')")

        assert (result.error_type, result.message) == (kind, "the text")
        assert output(session, f"try: fail({kind!r})\nexcept {caught_as}: print('caught')") == (
            "caught\n"
        )

    def test_the_traceback_of_a_tools_error(self, session):
        """The call in the cell; nothing of ours, nothing of the host."""
        assert shown(failure(session, "fail()")) == (
            "Traceback (most recent call last):\n"
            '  File "<cell>", line 1, in <module>\n'
            "    fail()\n"
            "    ~~~~^^\n"
            "ValueError: no\n"
        )

    def test_an_error_that_has_no_text(self, given):
        """A broken exception of the host is told as well as it can be."""

        class BrokenError(ValueError):
            def __str__(self):
                raise OSError("evil")

        def tool():
            raise BrokenError

        result = failure(given(tools={"tool": tool}), "tool()")

        assert (result.error_type, result.message) == (
            "BrokenError",
            "(its text could not be made)",
        )

    def test_wrong_arguments(self, given):
        """The message has the tool's signature, as Python says it of its own functions."""

        def search(query: str, limit: int = 3) -> list[str]:
            return []

        result = failure(given(tools={"search": search}), "search(3, 4, 5)")

        assert result.error_type == "TypeError"
        assert result.message.startswith("search(query: ")
        assert result.message.endswith("too many positional arguments")

    def test_a_type_error_inside_a_tool(self, given):
        """It is not taken for a wrong call."""
        result = failure(given(tools={"bad": lambda x: x + 1}), "bad('a')")

        assert result.message == 'can only concatenate str (not "int") to str'

    def test_help(self, given):
        """The LM can read a tool's signature and documentation."""

        def search(query):
            """Finds things.

            All of them.
            """

        session = given(tools={"search": search})

        assert output(session, "print(search.__doc__)").startswith(
            "search(query)\n\nFinds things.\n\nAll of them.\n"
        )

    def test_a_tool_without_a_signature(self, given):
        """Some builtins have none; they can be called all the same."""
        session = given(tools={"biggest": max})

        assert output(session, "biggest(1, 3, 2), biggest.__doc__[:12]") == "(3, 'biggest(...)')\n"

    def test_a_result_that_cannot_cross(self, given):
        """The cell is told; it is no fault of the session."""
        result = failure(given(tools={"tool": lambda: [threading.Lock()]}), "tool()")

        assert result.message.startswith("The result of tool()[0] is of type _thread.lock, ")

    @pytest.mark.parametrize(
        "make", ["'x' * 50_000_000", "b'x' * 50_000_000", "['x' * 50_000_000]"]
    )
    def test_fifty_megabytes(self, session, make):
        """Arguments and results of any size below the limit."""
        assert output(session, f"big = {make}\nback = echo(big)\nback == big") == "True\n"
        assert output(session, "del big, back") == ""

    def test_many_calls(self, session):
        """Each is a small message there and back."""
        assert output(session, "sum(echo(n) for n in range(2000))") == "1999000\n"

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_what_is_no_exception_goes_to_the_caller(self, opened, kind):
        """Ctrl-C in a tool ends the session, and is seen by who runs it."""

        def tool():
            raise kind

        session = opened(tools={"tool": tool})

        with pytest.raises(kind):
            session.run_cell("tool()")
        assert session.closed

    def test_a_tool_cannot_use_its_session(self, given):
        """It is busy with the cell that called; the cell sees that."""
        session = given(
            tools={
                "run": lambda: session.run_cell("1"),
                "assign": lambda: session.assign("x", 1),
                "register": lambda: session.register({}),
            }
        )

        for tool in ("run", "assign", "register"):
            result = failure(session, f"{tool}()")
            assert result.error_type == "SessionBusyError"
            assert "a host tool or thread cannot use it too" in result.message

    def test_another_thread_cannot_use_it_either(self, given):
        """One thing at a time."""
        inside, done = threading.Event(), threading.Event()

        def tool():
            inside.set()
            done.wait(60)

        session = given(tools={"tool": tool})
        runner = threading.Thread(target=session.run_cell, args=["tool()"])
        runner.start()
        inside.wait(60)
        with pytest.raises(SessionBusyError):
            session.run_cell("1")
        done.set()
        runner.join()

        assert output(session, "1") == "1\n"

    def test_registering_again(self, given):
        """Tools and outputs are replaced; variables stay."""
        session = given(tools={"old": echo}, outputs={"a": "int"})
        session.run_cell("kept = 1")

        session.register({"new": echo}, {"b": "int"})

        assert output(session, "new(kept)") == "1\n"
        assert failure(session, "old(1)").error_type == "NameError"
        assert session.run_cell("SUBMIT(b=2)") == Submitted({"b": 2})

    @pytest.mark.parametrize("name", ["a b", "1a", "", "class", "SUBMIT", "a.b", 3])
    def test_names_that_are_none(self, given, name):
        """They are refused, for tools as for outputs."""
        with pytest.raises(ValueError, match=r"cannot be a name|own name"):
            given(tools={name: echo})
        with pytest.raises(ValueError, match=r"cannot be a name|own name"):
            given(outputs={name: "str"})

    def test_a_session_that_would_have_such_a_name(self, opened, deno_children):
        """Nothing of it is left running."""
        before = deno_children()

        with pytest.raises(ValueError, match="cannot be a name"):
            opened(tools={"a b": echo})

        assert deno_children() == before


class TestAssign:
    """Variables are given once; what cells do to them stays done."""

    def test_by_name_or_all_at_once(self, session):
        """Both forms."""
        session.assign("one", 1)
        session.assign({"two": 2, "three": 3})

        assert output(session, "one, two, three") == "(1, 2, 3)\n"

    def test_changes_stay(self, session):
        """Nothing is sent again."""
        session.assign("rows", [1])
        session.run_cell("rows.append(2)")

        assert output(session, "rows") == "[1, 2]\n"

    def test_a_hundred_megabytes_of_text(self, session):
        """Text goes as raw bytes, once."""
        session.assign("text", "naïve 🙂 " * 10_000_000)

        assert output(session, "len(text), text[-8:], text.count('🙂')") == (
            "(80000000, 'naïve 🙂 ', 10000000)\n"
        )
        session.run_cell("del text")

    def test_buffers(self, session):
        """Binary parts of a value arrive beside it."""
        import pickle

        session.assign("parts", [pickle.PickleBuffer(b"x" * 1_000_000), pickle.PickleBuffer(b"")])

        assert output(session, "[len(part) for part in parts]") == "[1000000, 0]\n"

    def test_a_record(self, session):
        """A dataclass of the host is a record in cells, and itself on the way back."""

        @dataclasses.dataclass
        class Row:
            name: str
            size: int

        session.assign("row", Row("a", 3))

        assert output(session, "row, row.name, row['size']") == "(Row(name='a', size=3), 'a', 3)\n"
        assert session.run_cell("SUBMIT(row)") == Submitted({"output": Row("a", 3)})

    def test_what_cannot_enter(self, session):
        """It is refused with its place, and the session goes on."""
        with pytest.raises(
            ValueCrossingError, match=r"^rows\[1\]\['lock'\] is of type _thread.lock"
        ):
            session.assign("rows", [1, {"lock": threading.Lock()}])
        assert output(session, "1") == "1\n"

    def test_what_the_sandbox_does_not_have(self, session):
        """A class of the standard library that is missing there."""
        import grp

        with pytest.raises(ValueCrossingError, match="ModuleNotFoundError: No module named 'grp'"):
            session.assign("kind", grp.struct_group)

    @pytest.mark.parametrize("name", ["a b", "import", "", "SUBMIT"])
    def test_names_that_are_none(self, session, name):
        """Nothing is sent."""
        with pytest.raises(ValueError, match="name"):
            session.assign(name, 1)

    def test_no_variable_is_assigned_if_one_name_is_wrong(self, session):
        """All names are looked at first."""
        session.run_cell("fine = 0")
        with pytest.raises(ValueError, match="name"):
            session.assign({"fine": 1, "not fine": 2})

        assert output(session, "fine") == "0\n"


class TestIsolation:
    """A cell has no way out: not to JavaScript, the network, files, processes or the environment."""

    @pytest.mark.parametrize(
        "code",
        [
            "import js",
            "import pyodide_js",
            "from js import fetch",
            "import importlib; importlib.import_module('js')",
            "from pyodide.code import run_js; run_js('1')",
            "import pyodide.code; pyodide.code.run_js('globalThis')",
            "import sys; sys.modules['js'].eval",
            "import pyodide_js._module",
            "import micropip",
        ],
    )
    def test_no_javascript(self, session, code):
        """The modules that lead there are gone."""
        assert failure(session, code).error_type in ("ModuleNotFoundError", "KeyError")

    @pytest.mark.parametrize(
        "code",
        [
            "import socket; socket.create_connection(('127.0.0.1', PORT), timeout=1)",
            "import urllib.request; urllib.request.urlopen('http://127.0.0.1:PORT/', timeout=1)",
            "import http.client; http.client.HTTPConnection('127.0.0.1', PORT, 1).request('GET', '/')",
            "import pyodide.http; pyodide.http.open_url('http://127.0.0.1:PORT/')",
            "import pyodide.http; await pyodide.http.pyfetch('http://127.0.0.1:PORT/')",
            "import pyodide.http; pyodide.http.pyxhr.get('http://127.0.0.1:PORT/')",
            "import asyncio; await asyncio.open_connection('127.0.0.1', PORT)",
        ],
    )
    def test_no_network(self, session, code):
        """A listener on this very machine sees no connection."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            result = failure(session, code.replace("PORT", str(port)))

            assert result.error_type != "CellTimeoutError"
            assert select.select([listener], [], [], 0) == ([], [], [])

    def test_no_host_file(self, session, tmp_path):
        """Not to read, not to list, not to write."""
        secret = tmp_path / "secret"
        secret.write_text("hush")

        assert failure(session, f"open({str(secret)!r})").error_type == "FileNotFoundError"
        assert failure(session, f"import os; os.listdir({str(tmp_path)!r})").error_type == (
            "FileNotFoundError"
        )
        assert "etc" not in output(session, "import os; os.listdir('/')")
        session.run_cell(f"import os; os.makedirs({str(tmp_path)!r}); open({str(secret)!r}, 'w')")
        assert secret.read_text() == "hush"

    def test_the_environment_is_empty(self, opened, monkeypatch):
        """None of the host's names are there; the few that are belong to the interpreter."""
        monkeypatch.setenv("SECRET_TOKEN", "hush")
        printed = output(opened(), "import os; sorted(os.environ)")

        assert printed == (
            "['HOME', 'LANG', 'LD_LIBRARY_PATH', 'LOGNAME', 'PATH', 'PWD', 'PYTHONINSPECT', 'USER', "
            "'_']\n"
        )

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_the_process_has_no_secret(self, opened, monkeypatch):
        """Its own environment and command line hold nothing of the host's."""
        monkeypatch.setenv("SECRET_TOKEN", "hush")
        session = opened()
        own = Path(f"/proc/{session.pid}")

        names = {line.split(b"=")[0] for line in own.joinpath("environ").read_bytes().split(b"\0")}
        assert names - {b""} == {name.encode() for name in ready_engine().environment}
        assert os.readlink(own / "cwd") == "/"  # noqa: PTH115 - the link itself is the point
        assert b"hush" not in own.joinpath("cmdline").read_bytes()

    @pytest.mark.parametrize(
        "code",
        [
            "import subprocess; subprocess.run(['ls'])",
            "import os; os.fork()",
            "import os; os.execv('/bin/ls', ['ls'])",
            "import threading; threading.Thread(target=print).start()",
            "import multiprocessing; multiprocessing.Process(target=print).start()",
        ],
    )
    def test_no_processes_or_threads(self, session, code):
        """Nothing can be started."""
        failure(session, code)

    def test_files_of_cells_are_in_memory(self, session):
        """They can be written and read; the host's disk sees nothing of them."""
        code = "open('/tmp/own.txt', 'w').write('x')\nopen('/tmp/own.txt').read()"

        assert output(session, code) == "'x'\n"
        assert not Path("/tmp/own.txt").exists()

    def test_sessions_share_nothing(self, opened):
        """Files and variables of one are not in another."""
        opened().run_cell("x = 1\nopen('/tmp/x', 'w').write('x')")

        assert output(opened(), "import os; 'x' in globals(), os.path.exists('/tmp/x')") == (
            "(False, False)\n"
        )

    def test_sessions_draw_different_random_numbers(self, opened):
        """Although all of them start from one image."""
        drawn = {
            output(opened(), "import random, uuid; random.random(), uuid.uuid4()") for _ in "ab"
        }

        assert len(drawn) == 2


@pytest.fixture
def started():
    """A tool that says that the cell has begun, and the event that tells it to the test."""
    event = threading.Event()

    def begin():
        event.set()

    begin.event = event
    return begin


def when(event, action, *args):
    """Does something in another thread once the event has come."""

    def work():
        if event.wait(60):
            action(*args)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


INTERRUPTED = ("KeyboardInterrupt", "the cell was interrupted; its variables are kept")


class TestInterrupt:
    """A cell can be stopped from another thread; its variables stay."""

    @pytest.mark.parametrize(
        "code",
        [
            "while True: pass",
            "import time; time.sleep(1e6)",
            "import asyncio\nawait asyncio.sleep(1e6)",
        ],
    )
    def test_a_running_cell(self, given, started, code):
        """It sees KeyboardInterrupt."""
        session = given(tools={"started": started})
        thread = when(started.event, session.interrupt)

        result = failure(session, f"kept = 1\nstarted()\n{code}")

        thread.join()
        assert (result.error_type, result.message) == INTERRUPTED
        assert output(session, "kept") == "1\n"

    @pytest.mark.parametrize(
        "code",
        [
            "while True: pass",
            "await asyncio.sleep(1e6)",
            "asyncio.run(asyncio.sleep(1e6))",
            "while True: await asyncio.sleep(0)",
            "while True: asyncio.run(asyncio.sleep(0))",
            "while True: started()",
        ],
    )
    def test_none_is_lost(self, given, started, code):
        """At whatever moment it comes: in Python, in the event loop, or between the two."""
        session = given(tools={"started": started})
        for _ in range(20):
            started.event.clear()
            thread = when(started.event, session.interrupt)
            result = failure(session, f"import asyncio\nstarted()\n{code}")
            thread.join()

            assert (result.error_type, result.message) == INTERRUPTED

    def test_while_a_tool_works(self, given):
        """The cell sees it when the tool returns."""
        session = given(tools={"tool": lambda: session.interrupt()})

        assert failure(session, "tool()\nwhile True: pass").error_type == "KeyboardInterrupt"

    def test_when_no_cell_runs(self, given):
        """Nothing happens, also not to the next cell."""
        session = given()

        session.interrupt()

        assert output(session, "sum(range(100_000))") == "4999950000\n"

    def test_a_closed_session(self, opened):
        """Nothing happens."""
        session = opened()
        session.close()

        session.interrupt()


class TestDeath:
    """When the process dies, the session goes on in another, from the state before that cell."""

    def kill(self, session):
        os.kill(session.pid, signal.SIGKILL)

    def check_healed(self, session, result):
        assert isinstance(result, Failed)
        assert (result.error_type, result.state_lost) == ("SandboxDiedError", False)
        assert result.message.startswith("The sandbox ended: ")
        assert result.message.endswith("with everything as it was before this cell.")
        assert output(session, "given, made, echo(1)") == "([1], 2, 1)\n"
        assert session.run_cell("SUBMIT(answer=1)") == Submitted({"answer": 1})

    @pytest.fixture
    def mortal(self, opened, started):
        """A session with variables, tools and outputs, to be killed."""
        session = opened(
            limits=Limits(memory_bytes=256 * MEBIBYTE),
            tools={"echo": echo, "started": started, "die": lambda: self.kill(session)},
            outputs={"answer": "int"},
        )
        session.assign("given", [1])
        session.run_cell("made = 2")
        return session

    def test_when_idle(self, mortal):
        """The next cell notices nothing."""
        self.kill(mortal)

        assert output(mortal, "given, made, echo(1)") == "([1], 2, 1)\n"
        assert mortal.restarts == 1

    def test_in_mid_cell(self, mortal, started):
        """The cell that ran is told."""
        thread = when(started.event, self.kill, mortal)

        result = mortal.run_cell("started()\nwhile True: pass")

        thread.join()
        self.check_healed(mortal, result)

    def test_in_a_tool_call(self, mortal):
        """Its answer has nowhere to go."""
        self.check_healed(mortal, mortal.run_cell("die()"))

    @pytest.mark.parametrize(
        "code",
        [
            "import os; os._exit(3)",
            "import os; os.abort()",
            "import ctypes; ctypes.string_at(2**31, 10)",
            "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        ],
    )
    def test_by_its_own_hand(self, mortal, code):
        """A cell that breaks the interpreter loses its own work, no more."""
        self.check_healed(mortal, mortal.run_cell(code))

    def test_again_and_again(self, mortal):
        """Healing does not wear out."""
        for _ in range(3):
            self.check_healed(mortal, mortal.run_cell("die()"))

    def test_a_state_that_kills(self, mortal):
        """What ends one cell after the other lies in the state, which is given up; the inputs stay."""
        mortal.run_cell("x = None\nfor _ in range(3_000_000): x = [x]")  # too deep to be freed

        first, second = mortal.run_cell("x = None"), mortal.run_cell("x = None")

        assert (first.state_lost, second.state_lost) == (False, True)
        assert second.message.endswith("everything else that cells defined is gone.")
        assert output(mortal, "given, 'made' in globals(), 'x' in globals()") == (
            "([1], False, False)\n"
        )

    def test_assigning_to_a_dead_process(self, mortal):
        """Starts another one first."""
        self.kill(mortal)

        mortal.assign("more", 1)

        assert output(mortal, "made, more") == "(2, 1)\n"

    def test_registering_at_a_dead_process(self, mortal):
        """Starts another one first, which has the new tools."""
        self.kill(mortal)

        mortal.register({"echo": lambda x: -x}, {"other": "int"})

        assert output(mortal, "given, made, echo(1)") == "([1], 2, -1)\n"
        assert mortal.run_cell("SUBMIT(other=1)") == Submitted({"other": 1})

    def test_killed_while_it_is_told_of_tools(self, mortal):
        """The same: nothing is lost."""
        os.kill(mortal.pid, signal.SIGSTOP)  # so that it is asked, and cannot answer
        thread = threading.Timer(0.2, self.kill, [mortal])
        thread.start()

        mortal.register({"echo": lambda x: -x})

        thread.join()
        assert output(mortal, "given, made, echo(1)") == "([1], 2, -1)\n"
        assert mortal.restarts == 1

    def test_a_process_that_stands_still(self, opened):
        """A full pipe is not waited for without end: the process is replaced, and the value sent again."""
        session = opened(limits=Limits(start_seconds=3))
        session.run_cell("x = 1")
        os.kill(session.pid, signal.SIGSTOP)

        session.assign("large", "x" * 20_000_000)

        assert output(session, "x, len(large)") == "(1, 20000000)\n"
        assert session.restarts == 1

    def test_an_engine_that_is_gone(self, tmp_path):
        """If no other process can be started, the session is closed, and the reason said."""
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
        """What was started meanwhile is ended too."""

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

    @pytest.mark.parametrize("ends", [1, 2])
    def test_killed_while_it_heals(self, deno_children, ends):
        """A process that is ended before it is ready costs nothing either."""
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

    def test_killed_while_it_opens(self, deno_children):
        """However far it was, it did not come up."""

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
        """The next cell says it."""
        session = opened()
        session.run_cell("import time; print(time.time())")
        self.kill(session)

        session.assign("x", 1)

        assert output(session, "x").startswith("[The sandbox ended between two cells")
        assert output(session, "x") == "1\n"

    def test_a_cell_that_prints_something_else(self, mortal):
        """Is named when a later cell ends the process; the state is not lost."""
        mortal.run_cell("import time; print(time.time())")

        result = mortal.run_cell("die()")

        assert "printed something else than the first time: 2." in result.message
        assert not result.state_lost
        assert output(mortal, "made") == "2\n"

    @pytest.mark.parametrize("code", ["given", "1 / 0", "SUBMIT(answer=1)"])
    def test_a_loss_between_two_cells(self, mortal, code):
        """Is said by the next result, however that cell ends, and only by that one."""
        mortal.run_cell("import time; echo(time.time())")  # cannot be asked twice
        self.kill(mortal)
        mortal.assign("more", 1)

        first, second = mortal.run_cell(code), mortal.run_cell(code)

        assert first.output.startswith("[The sandbox ended between two cells")
        assert (first.state_lost, second.state_lost) == (True, False)
        assert output(mortal, "given, more, 'made' in globals()") == "([1], 1, False)\n"

    def test_the_callers_interrupt(self, opened, started):
        """Ctrl-C in the thread that runs the cell ends the session and is raised there."""
        session = opened(tools={"started": started})
        main = threading.main_thread().ident
        thread = when(started.event, signal.pthread_kill, main, signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            session.run_cell("started()\nwhile True: pass")

        thread.join()
        assert session.closed


class TestBoundsOfHealing:
    """What is kept and done to bring a session back is bounded, and past it the session says so."""

    @pytest.fixture
    def unsavable(self, opened):
        """A session with something in it that no checkpoint can have."""
        session = opened(tools={"give": lambda size: "x" * size})
        session.run_cell("from pyodide.ffi import create_proxy\nheld = create_proxy(lambda: 1)")
        with pytest.raises(CheckpointError):
            session.checkpoint()
        return session

    def test_answers_that_are_too_large(self, unsavable):
        """Are not kept: the next crash costs the state, and the reason is told."""
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
        """A checkpoint takes the place of what is not kept: nothing is lost."""
        session = opened(tools={"give": lambda size: "x" * size})
        assert isinstance(
            session.run_cell("x = len([give(10_000_000) for _ in range(8)])"), Completed
        )
        os.kill(session.pid, signal.SIGKILL)

        result = session.run_cell("x")

        assert (result.output, result.state_lost) == ("8\n", False)


class TestClose:
    """Closing ends everything, is fine twice, and never hangs."""

    def test_a_context_manager(self):
        """The usual way."""
        with open_session() as session:
            assert not session.closed

        assert session.closed

    def test_an_error_in_the_block(self):
        """Closes too, and is passed on."""
        with pytest.raises(LookupError), open_session() as session:
            raise LookupError

        assert session.closed

    def test_twice(self, opened):
        """Is fine."""
        session = opened()

        session.close()
        session.close()

    def test_using_it_afterwards(self, opened):
        """An error that says what to do."""
        session = opened()
        session.close()

        for use, *arguments in (
            (session.run_cell, "1"),
            (session.assign, "x", 1),
            (session.register, {}),
            (session.checkpoint,),
            (session.fork,),
        ):
            with pytest.raises(SessionClosedError, match=r"Open another with open_session\(\)"):
                use(*arguments)

    @pytest.mark.parametrize(
        "code", ["while True: pass", "import time; time.sleep(1e6)", UNINTERRUPTIBLE]
    )
    def test_from_another_thread_while_a_cell_runs(self, opened, started, code):
        """The cell's caller is told that the session was closed."""
        session = opened(tools={"started": started})
        thread = when(started.event, session.close)

        with pytest.raises(SessionClosedError, match="closed while a cell ran"):
            session.run_cell(f"started()\n{code}")

        thread.join()

    def test_from_a_tool(self, opened):
        """The same."""
        session = opened(tools={"close": lambda: session.close()})

        with pytest.raises(SessionClosedError):
            session.run_cell("close()")

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_nothing_is_left(self, deno_children):
        """No process, thread or open file, on every path."""
        gc.collect()  # what earlier tests let go of is not ours to count

        def open_and_use():
            with open_session(
                tools={"die": lambda: os.kill(session.pid, signal.SIGKILL)}
            ) as session:
                session.assign("x", "x" * 1_000_000)
                session.run_cell("print(x)")
                session.run_cell("die()")

        def resources():
            files = len(list(Path("/proc/self/fd").iterdir()))
            return files, threading.active_count(), deno_children()

        open_and_use()
        before = resources()
        open_and_use()

        assert resources() == before

    def test_many_at_once(self, deno_children):
        """Sessions are independent, and can be opened from any thread."""
        before = deno_children()
        printed = {}
        barrier = threading.Barrier(4)

        def work(number):
            with open_session(tools={"own": lambda: number}) as session:
                barrier.wait(60)
                session.assign("x", number)
                printed[number] = output(session, "x, own()")

        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert printed == {number: f"({number}, {number})\n" for number in range(4)}
        assert deno_children() == before


HOST_PROGRAM = """
import os, signal, sys, threading
from sandbox_runtime import open_session

ready = threading.Event()
session = open_session(tools={"ready": ready.set})
session.assign("x", "x" * 1000)
"""

SPIN = "threading.Thread(target=session.run_cell, args=['ready()\\nwhile True: pass']).start()\n"

FORK = """
child = os.fork()
if child == 0:
    signal.pause()
"""

TELL = "print(session.pid, flush=True)\n"
PAUSE = "signal.pause()\n"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for processes of others")
class TestHostDies:
    """When the host is gone, its sandboxes are gone, and nothing of them stays on the disk."""

    @pytest.fixture
    def host(self, tmp_path):
        """Runs a host; gives its process and the file descriptors of its sandbox and forked child."""
        opened = []
        temporary = tmp_path / "temporary"
        temporary.mkdir()

        def start(program, count):
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", program],
                cwd=PROJECT,
                env={**os.environ, "TMPDIR": str(temporary)},
                stdout=subprocess.PIPE,
                text=True,
            )
            opened.append(process)
            pids = [int(process.stdout.readline()) for _ in range(count)]
            watched = [os.pidfd_open(pid) for pid in pids]
            opened.extend(watched)
            return process, watched

        yield start
        for item in opened:
            if isinstance(item, int):
                os.close(item)
            else:
                item.kill()
                item.wait()
                item.stdout.close()
        assert list(temporary.iterdir()) == []

    def is_gone(self, process):
        """Waits for the end of a process."""
        return select.select([process], [], [], GONE_SECONDS)[0] == [process]

    @pytest.mark.parametrize("spin", ["", SPIN + "ready.wait()\n"], ids=["idle", "in a cell"])
    def test_killed(self, host, spin):
        """Within two seconds, also when a cell is running."""
        process, [sandbox] = host(HOST_PROGRAM + spin + TELL + PAUSE, 1)

        process.kill()

        assert self.is_gone(sandbox)

    @pytest.mark.parametrize("spin", ["", SPIN + "ready.wait()\n"], ids=["idle", "in a cell"])
    def test_killed_while_a_forked_child_holds_the_pipes(self, host, spin):
        """The end of the input does not come then; the sandbox looks for its parent."""
        program = HOST_PROGRAM + FORK + spin + TELL + "print(child, flush=True)\n" + PAUSE
        process, [sandbox, child] = host(program, 2)
        try:
            process.kill()

            assert self.is_gone(sandbox)
        finally:
            signal.pidfd_send_signal(child, signal.SIGKILL)

    def test_ended_without_closing(self, host):
        """A script that forgets to close leaves nothing either, and ends at once."""
        process, [sandbox] = host(HOST_PROGRAM + TELL, 1)

        assert process.wait(60) == 0
        assert self.is_gone(sandbox)

    def test_ended_by_an_exception(self, host):
        """Nor does one that fails."""
        process, [sandbox] = host(HOST_PROGRAM + TELL + "sys.exit(3)", 1)

        assert process.wait(60) == 3
        assert self.is_gone(sandbox)


class TestFronts:
    """Host tools with Python of their own in the sandbox."""

    MODULES = types.MappingProxyType(
        {
            "fronts_words": "def shout(text):\n    return text.upper()\n",
            "fronts_entry": (
                "from fronts_words import shout\n"
                "def front(name, call):\n"
                "    def tool(text):\n"
                "        if not isinstance(text, str):\n"
                "            raise TypeError(f'{name} wants text')\n"
                "        return call(shout(text)) + '!'\n"
                "    return tool\n"
            ),
        }
    )

    def test_it_stands_between_the_cell_and_the_function(self):
        """What the cell passes is made ready there, and what comes back is made its own."""
        tools = {name: FrontedTool(lambda text: text * 2, self.MODULES) for name in ("f", "g")}
        with open_session(tools=tools) as session:
            assert session.run_cell("f('ab') + g('c')").output == "'ABAB!CC!'\n"

    def test_its_frames_are_not_in_tracebacks(self):
        """The cell's author sees his own lines only."""
        with open_session(tools={"f": FrontedTool(str, self.MODULES)}) as session:
            failed = session.run_cell("f(5)")

        assert failed.error_type == "TypeError"
        assert failed.traceback.count("File ") == 1
        assert "f wants text" in failed.traceback

    def test_it_is_whole_again_in_every_cell_and_after_a_restart(self):
        """Whatever a cell binds to the name, and when the process is lost."""
        with open_session(tools={"f": FrontedTool(str.strip, self.MODULES)}) as session:
            session.run_cell("f = None")
            assert session.run_cell("f(' a')").output == "'A!'\n"
            os.kill(session.pid, signal.SIGKILL)
            assert session.run_cell("f(' b')").output == "'B!'\n"
            assert session.restarts == 1

    def test_a_module_can_be_imported(self):
        """Under the tool's name; it is made when something of it is used."""
        source = (
            "import types\ndef front(name, call):\n    made = types.ModuleType(name)\n"
            "    made.double = lambda x: call(x, x)\n    return made\n"
        )
        tools = {"sums": FrontedTool(lambda a, b: a + b, {"sums_entry": source}, kind="module")}
        with open_session(tools=tools) as session:
            assert session.run_cell("import sums\nsums.double(4)").output == "8\n"
            assert session.run_cell("from sums import double\ndouble(2)").output == "4\n"
            assert session.run_cell("sums.nothing").error_type == "AttributeError"

    def test_a_display_takes_the_last_value(self):
        """And says what is shown of it. Cells have no name for it."""
        taken = []
        source = (
            "def front(name, call):\n"
            "    return lambda value: value if isinstance(value, int) else call(value)\n"
        )
        tools = {"show": FrontedTool(taken.append, {"show_entry": source}, kind="display")}
        with open_session(tools=tools) as session:
            assert session.run_cell("'told'").output == ""
            assert session.run_cell("print('p')\n5").output == "p\n5\n"
            assert session.run_cell("None; x = 'not the last value'").output == ""
            assert session.run_cell("show").error_type == "NameError"
        assert taken == ["told"]
