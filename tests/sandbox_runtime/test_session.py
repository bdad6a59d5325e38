"""Sessions on the real engine: the outcomes of cells, their exceptions, and their output.

Most tests of sessions share one; those that end processes or need other limits open their own.
"""

from __future__ import annotations

import pytest
from session_cells import (
    everything_in,
    failure,
    output,
)

from sandbox_runtime import (
    Completed,
    Submitted,
)


class TestCells:
    """A cell ends in one of three ways."""

    def test_completed(self, session):
        """A completed cell has its printed output and the value of its last expression."""
        assert session.run_cell("print('a')\n1 + 1") == Completed("a\n2\n")

    def test_submitted(self, session):
        """A cell that submits has the outputs, and the text printed before."""
        assert session.run_cell("print('a')\nSUBMIT({'x': {1, 2}})") == Submitted(
            {"output": {"x": {1, 2}}}, "a\n"
        )

    def test_failed(self, session):
        """A failed cell has the exception, and exactly this traceback, with the cell's own lines only."""
        result = failure(session, "def f(x):\n    return 1 / x\nprint('a')\nf(0)")

        assert (result.error_type, result.message) == ("ZeroDivisionError", "division by zero")
        assert result.output == "a\n"
        assert everything_in(result) == (
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
        """A syntax error is shown with Python's own text."""
        assert everything_in(failure(session, "x = (\n")) == (
            "  File \"<cell>\", line 1\n    x = (\n        ^\nSyntaxError: '(' was never closed\n"
        )

    def test_state_stays(self, session):
        """Variables, functions and imports persist, also those of failed cells."""
        session.run_cell("import math\nkept = 41\n1 / 0")

        assert output(session, "math.floor(kept + 1.5)") == "42\n"

    def test_await_at_the_top(self, session):
        """Top-level await works, also with concurrent tasks."""
        code = """
import asyncio
async def one(n):
    await asyncio.sleep(0.001)
    return n
await asyncio.gather(one(1), one(2))
"""
        assert output(session, code) == "[1, 2]\n"

    def test_asyncio_run(self, session):
        """`asyncio.run` works in a cell, as in a script."""
        code = "import asyncio\nasync def f(): return 42\nasyncio.run(f())"

        assert output(session, code) == "42\n"

    def test_the_error_of_an_awaited_task(self, session):
        """The exception of an awaited task is raised in the cell."""
        code = """
import asyncio
async def bad():
    await asyncio.sleep(0)
    raise LookupError("lost")
await asyncio.gather(bad(), asyncio.sleep(0))
"""

        assert failure(session, code).message == "lost"

    def test_code_with_lone_surrogates(self, session):
        """Code with lone surrogates runs; they are shown as escapes."""
        assert output(session, "'a\ud800b'") == "'a\\ud800b'\n"

    def test_a_large_cell(self, session):
        """A cell may have a megabyte of code."""
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
    """Any exception of a cell is data, and the session continues."""

    @pytest.mark.parametrize("name", EXCEPTIONS)
    def test_it_is_reported(self, session, name):
        """The exception is reported by its name, and the session keeps its process and state."""
        result = failure(session, EXCEPTIONS[name])

        assert result.error_type == ("KeyError" if name == "EvilRepr" else name)
        assert output(session, "1 + 1") == "2\n"

    def test_sys_exit_says_what_to_do(self, session):
        """A cell cannot exit the REPL; the error says to call SUBMIT."""
        assert failure(session, "exit(1)").message == (
            "a cell cannot exit the REPL; call SUBMIT(...) to finish"
        )

    def test_a_forgotten_await_is_noted(self, session):
        """The note names the coroutine, and no file of ours."""
        assert output(session, "import asyncio\nasyncio.sleep(0)\nNone") == (
            "\n[coroutine 'sleep' was never awaited]\n"
        )

    def test_errors_in_groups_show_no_frames_of_ours(self, session):
        """Each exception of a group shows the cell's lines only."""
        code = """
import asyncio
async def work(): fail()
async with asyncio.TaskGroup() as group: group.create_task(work())
"""
        result = failure(session, code)

        assert "driver.py" not in result.traceback
        assert "ValueError: no" in result.traceback

    def test_a_deep_structure(self, rough):
        """Deep recursion in C may cost the process; the next cell runs in a restored session."""
        rough.run_cell("x = []\nfor _ in range(100_000): x = [x]\nrepr(x)")

        assert output(rough, "1 + 1") == "2\n"

    @pytest.mark.sampled(2)
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
        """Damage to Python's modules costs at most the session's state: the session recovers."""
        wrecked.run_cell(code)
        wrecked.run_cell("1 / 0")

        assert output(wrecked, "print(echo([1]))") == "[1]\n"
        assert wrecked.run_cell("SUBMIT(1)") == Submitted({"output": 1})

    @pytest.mark.parametrize("name", ["json.dumps", "json.loads", "pickle.loads", "time.monotonic"])
    def test_functions_that_the_driver_uses(self, session, name):
        """Replacing a function that the driver uses has no effect on it."""
        module = name.partition(".")[0]
        session.run_cell(f"import {module}\nreal = {name}\n{name} = None")
        pid = session.pid

        assert output(session, "echo([1])") == "[1]\n"
        assert session.run_cell(f"{name} = real\nSUBMIT(2)") == Submitted({"output": 2})
        assert session.pid == pid


class TestOutput:
    """Output is bounded, in order, and valid text."""

    def test_huge_output(self, session):
        """The first and last half of `output_chars` are kept, with the number of omitted characters."""
        printed = output(session, "print('a' * 50_000_000 + 'b' * 50_000_000)")

        assert printed == (
            "a" * 5000 + "\n... (99,990,001 characters omitted) ...\n" + "b" * 4999 + "\n"
        )

    def test_a_huge_last_value(self, session):
        """A huge last value is truncated before it is copied."""
        printed = output(session, "'a' * 50_000_000")

        assert "(49,990,003 characters omitted)" in printed
        assert len(printed) < 10_100

    def test_lone_surrogates(self, session):
        """Lone surrogates in output are shown as escapes."""
        assert output(session, r"print('a\ud800b'); '\udfff'") == "a\\ud800b\n'\\udfff'\n"

    def test_writes_to_the_file_descriptors(self, session):
        """Raw writes follow Python's own output, and never reach the protocol's pipe."""
        code = "import os\nos.write(1, b'one\\n'); os.write(2, b'two \\xff\\n'); print('print')"

        assert output(session, code).endswith("print\none\ntwo \ufffd\n")

    def test_a_forged_frame(self, session):
        """A frame printed by a cell is plain text: no cell can write to the protocol's pipe."""
        body = '{"jsonrpc":"2.0","id":1,"result":{}}'
        code = f"import os\nn = os.write(1, b'Content-Length: {len(body)}\\r\\n\\r\\n{body}')"

        assert output(session, code) == f"Content-Length: {len(body)}\r\n\r\n{body}"

    def test_endless_raw_writes(self, session):
        """The output of raw writes is bounded too."""
        code = "import os\nfor _ in range(1000): n = os.write(1, b'x' * 100_000)"

        assert len(output(session, code)) < 10_100

    def test_nobody_answers(self, session):
        """`input` raises, because the standard input is at its end."""
        assert failure(session, "input('?')").error_type == "RuntimeError"
        assert output(session, "import os; os.read(0, 10), open(0, closefd=False).read()") == (
            "(b'', '')\n"
        )

    def test_a_callback_left_behind_says_nothing(self, session):
        """A callback that outlives its cell is dropped; the cell's output says so."""
        code = "import asyncio\nasyncio.get_event_loop().call_soon(print, 'x' * 100_000)\nNone"
        pid = session.pid

        assert "1 callback(s) of the event loop" in output(session, code)
        session.assign("between", 1)
        assert output(session, "between") == "1\n"
        assert session.pid == pid

    def test_background_tasks_are_cancelled(self, session):
        """A cell's tasks are cancelled at its end, and the output says so."""
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
