"""Exceptions as the cell driver reports them, with the cell's own lines, and how cells are interrupted."""

from __future__ import annotations

import builtins
import os
import signal
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="the driver is made for POSIX"
)


class TestTracebacks:
    """A traceback shows the cell's own lines with their numbers, and nothing of our frames."""

    def test_the_line_that_raised(self, cells):
        """A traceback shows the number and the text of the line that raised."""
        assert cells.traceback("x = 1\nraise ValueError('no')") == (
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 2, in <module>\n'
            "    raise ValueError('no')\n"
            "ValueError: no"
        )

    def test_a_function_of_an_earlier_cell(self, cells):
        """Its lines are still known."""
        cells.run("def f():\n    raise KeyError('k')")

        assert cells.traceback("\nf()") == (
            "Traceback (most recent call last):\n"
            '  File "<cell 2>", line 2, in <module>\n'
            "    f()\n"
            '  File "<cell 1>", line 2, in f\n'
            "    raise KeyError('k')\n"
            "KeyError: 'k'"
        )

    def test_frames_of_the_standard_library(self, cells):
        """Only the last of them is shown, beside all of the cell's own: where it raised, and who called it."""
        traceback = cells.traceback(
            "import json\ndef hook(pairs):\n    return json.loads('{')\n"
            "json.loads('{\"a\": 1}', object_pairs_hook=hook)"
        )
        places = [line.strip() for line in traceback.splitlines() if line.startswith("  File ")]

        assert places[0] == 'File "<cell 1>", line 4, in <module>'
        assert places[1] == 'File "<cell 1>", line 3, in hook'
        assert places[2].endswith("in raw_decode")
        assert "json" in places[2]
        assert len(places) == 3

    def test_a_cause(self, cells):
        """Chained exceptions are shown in Python's way."""
        code = "try:\n    raise ValueError('a')\nexcept ValueError as e:\n    raise OSError('b') from e"

        assert cells.traceback(code) == (
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 2, in <module>\n'
            "    raise ValueError('a')\n"
            "ValueError: a\n"
            "\n"
            "The above exception was the direct cause of the following exception:\n"
            "\n"
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 4, in <module>\n'
            "    raise OSError('b') from e\n"
            "OSError: b"
        )

    def test_a_syntax_error(self, cells):
        """The line, without a traceback that would be ours."""
        assert cells.traceback("x = 1\ny = (") == (
            "  File \"<cell 1>\", line 2\n    y = (\nSyntaxError: '(' was never closed"
        )

    def test_a_syntax_error_runs_nothing(self, cells):
        """The cell is compiled before its first statement runs."""
        cells.run("x = 1\ny = (")

        assert cells.error("x") == "NameError: name 'x' is not defined"

    @pytest.mark.parametrize(
        "code",
        ["return 1", "x = 1\n  y = 2", "'\\ud8'", "\0", "break", "f(", "é = = 1", "await"],
    )
    def test_code_that_does_not_compile(self, cells, code):
        """Code that does not compile is reported to the LM as an error, whatever is wrong with it."""
        assert "SyntaxError" in cells.error(code) or "IndentationError" in cells.error(code)

    def test_a_host_tools_error(self, open_cells):
        """The frame of the tool itself is ours, and not shown."""
        cells = open_cells({"fail": lambda: 1 / 0})

        assert cells.traceback("fail()") == (
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 1, in <module>\n'
            "    fail()\n"
            "ZeroDivisionError: division by zero"
        )

    def test_a_value_that_cannot_leave(self, cells):
        """Nor are the frames that looked for it."""
        assert cells.traceback("SUBMIT([object()])") == (
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 1, in <module>\n'
            "    SUBMIT([object()])\n"
            "CannotSend: SUBMIT['output'][0] is of type object, which cannot leave the sandbox; "
            "turn it into text, numbers, lists or dicts first"
        )

    def test_an_exception_group(self, open_cells):
        """Our frames are taken out of its parts as well."""
        cells = open_cells({"fail": lambda: 1 / 0})
        code = """
try:
    fail()
except ZeroDivisionError as error:
    raise ExceptionGroup("several", [error])
"""

        text = cells.traceback(code)

        assert "driver.py" not in text
        assert "ExceptionGroup: several (1 sub-exception)" in text

    def test_a_cycle_of_causes(self, cells):
        """Python's own guard against it is enough."""
        code = "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a"

        assert cells.error(code) == "ValueError: a"


class TestExceptions:
    """A cell may raise anything at all; it is data."""

    @pytest.mark.parametrize(
        "name", ["KeyboardInterrupt", "GeneratorExit", "BaseException", "StopIteration"]
    )
    def test_any_class(self, cells, name):
        """Also those that are no `Exception`."""
        assert cells.error(f"raise {name}('x')") == f"{name}: x"

    @pytest.mark.parametrize("code", ["exit()", "import sys; sys.exit(3)", "raise SystemExit"])
    def test_system_exit(self, cells, code):
        """A cell cannot exit; the message says how a run ends."""
        if "exit" not in vars(builtins):
            builtins.exit = sys.exit

        assert cells.error(code) == (
            "SystemExit: a cell cannot exit the REPL; call SUBMIT(...) to finish"
        )

    def test_a_cancelled_error_of_its_own(self, cells):
        """It is no interrupt of ours."""
        assert cells.error("import asyncio; raise asyncio.CancelledError('x')") == (
            "CancelledError: x"
        )

    @pytest.mark.parametrize(
        "method",
        ["__str__", "__repr__", "__getattribute__", "__traceback__", "__notes__", "__cause__"],
    )
    @pytest.mark.parametrize("harm", ["raise SystemExit('evil')", "return 3", "return self"])
    def test_evil_methods(self, cells, method, harm):
        """An exception's own methods can break only how it is shown."""
        code = f"""
class Evil(Exception):
    def {method}(self, *args):
        {harm}
    {method if method.endswith(("ck__", "es__", "se__")) else "other"} = property({method})
raise Evil(1)
"""

        end = cells.run(code)

        assert (end["outcome"], end["errorType"]) == ("failed", "Evil")
        assert cells.output("1") == "1\n"

    @pytest.mark.parametrize(
        "args",
        [
            "object()",
            "b'\\xff'",
            "'\\ud800'",
            "float('nan')",
            "{1: {2}}",
            "Evil()",
            "[...] * 10**6",
        ],
    )
    def test_arguments_of_any_kind(self, cells, args):
        """They are never taken for JSON."""
        cells.run("class Evil:\n    def __repr__(self): raise OSError\n    __str__ = __repr__")

        assert cells.error(f"raise KeyError({args}, 1)").startswith("KeyError: ")

    def test_a_name_that_lies(self, cells):
        """The class is named by Python, not by what its metaclass pretends."""
        code = """
class Meta(type):
    __name__ = property(lambda self: "Lie")
class Truth(Exception, metaclass=Meta): pass
raise Truth
"""

        assert cells.error(code) == "Truth: "

    def test_a_str_subclass_as_text(self, cells):
        """Its methods can break only how it is shown."""
        code = """
class Text(str):
    def __len__(self): raise OSError
    def __str__(self): return self
    def __getitem__(self, at): raise OSError
class E(Exception):
    def __str__(self): return Text("text")
raise E
"""

        assert cells.error(code).startswith("E: ")

    def test_an_evil_last_value(self, cells):
        """`repr` runs in the cell; what it raises is the cell's."""
        assert cells.error("class R:\n    def __repr__(self): raise OSError('evil')\nR()") == (
            "OSError: evil"
        )

    def test_a_repr_that_is_no_text(self, cells):
        """A `__repr__` that returns no text fails with the error of Python itself."""
        assert "TypeError" in cells.error("class R:\n    def __repr__(self): return 3\nR()")


class TestSignals:
    """A signal stops the running cell, and only that."""

    def test_an_interrupt(self, cells):
        """The cell's code sees KeyboardInterrupt; its variables stay."""
        code = f"import os\nx = 1\nos.kill({os.getpid()}, {int(signal.SIGINT)})\nwhile True: pass"

        assert cells.error(code) == (
            "KeyboardInterrupt: the cell was interrupted; its variables are kept"
        )
        assert cells.output("x") == "1\n"
        assert cells.host.signals == 1

    def test_one_that_arrives_twice(self, cells):
        """It raises once: what the cell does to tidy up goes on."""
        cells.host.echoes = {2}
        kill = f"os.kill({os.getpid()}, {int(signal.SIGINT)})"
        code = f"import os\ntry:\n    {kill}\nfinally:\n    {kill}\n    tidy = True"

        assert cells.error(code).startswith("KeyboardInterrupt: ")
        assert cells.output("tidy") == "True\n"
        assert cells.host.signals == 2

    def test_the_time_limit(self, cells):
        """It is an interrupt with a name of its own."""
        code = f"import os\nos.kill({os.getpid()}, {int(signal.SIGALRM)})\nwhile True: pass"

        assert cells.error(code) == (
            "CellTimeoutError: the cell ran into its time limit (waiting for tools does not count); its "
            "variables are kept. Do less at once"
        )

    def test_the_limit_is_named(self, cells):
        """The cell's time is not in every prompt, so the error says how much it is."""
        cells.driver.wake(10_000, 10_000, "", 60.0)
        code = f"import os\nos.kill({os.getpid()}, {int(signal.SIGALRM)})\nwhile True: pass"

        assert cells.error(code).startswith("CellTimeoutError: the cell ran for 60 s, its limit (")

    def test_while_the_last_value_is_shown(self, cells):
        """`repr` is the cell's own work, too."""
        code = f"""
import os
class Slow:
    def __repr__(self):
        os.kill({os.getpid()}, {int(signal.SIGALRM)})
        while True: pass
Slow()
"""

        assert cells.error(code).startswith("CellTimeoutError: ")

    def test_in_an_await(self, cells):
        """The coroutine that runs sees it."""
        code = f"""
import asyncio, os
async def work():
    os.kill({os.getpid()}, {int(signal.SIGINT)})
    while True: pass
await work()
"""

        assert cells.error(code).startswith("KeyboardInterrupt: ")

    def test_it_can_be_caught_for_cleaning_up(self, cells):
        """It is an exception like any other to the cell."""
        code = f"""
import os
try:
    os.kill({os.getpid()}, {int(signal.SIGINT)})
    while True: pass
except KeyboardInterrupt:
    print("cleaning up")
"""

        assert cells.output(code) == "cleaning up\n"

    def test_between_cells_it_means_nothing(self, cells):
        """A late signal does not hit the next cell, or the driver."""
        cells.run("1")

        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGALRM)

        assert cells.output("1") == "1\n"

    def test_handlers_that_a_cell_installed_are_replaced(self, cells):
        """The next cell can be stopped."""
        cells.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
        code = f"import os\nos.kill({os.getpid()}, {int(signal.SIGINT)})\nwhile True: pass"

        assert cells.error(code).startswith("KeyboardInterrupt: ")
