"""The cell driver, run by this very Python with a host that is a few lines.

What needs the real interpreter (its event loop, its limits, the exact marks in its tracebacks) is in
`test_session.py`.
"""

from __future__ import annotations

import io
import signal
import sys

import pytest

from sandbox_runtime.values import encoder as values

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="the driver is made for POSIX"
)


class TestNamespace:
    """One namespace for all cells of a session."""

    def test_variables_stay(self, cells):
        """A name that a cell defines is there in the next one, as in any REPL."""
        cells.run("x = 41")

        assert cells.output("x + 1") == "42\n"

    def test_variables_stay_when_a_cell_fails(self, cells):
        """All that it did before it failed is done."""
        cells.run("x = 1\ny = 1 / 0")

        assert cells.output("x") == "1\n"

    def test_assigned_variables(self, cells):
        """They are bound once; what a cell does to them stays done."""
        cells.driver.assign("rows", "pickle", values.encode([1, 2], "rows")[1])
        cells.run("rows.append(3)")

        assert cells.output("rows") == "[1, 2, 3]\n"

    def test_functions_see_the_cells_globals(self, cells):
        """The namespace is that of the module `__main__`."""
        cells.run("def f(): return x\nclass C: pass\nx = 1")

        assert cells.output("f(), C.__module__, __name__") == "(1, '__main__', '__main__')\n"

    def test_main_can_be_imported_and_pickled_from(self, cells):
        """Libraries look there for what cells define."""
        cells.run("class C: pass")

        assert cells.output("import pickle; type(pickle.loads(pickle.dumps(C()))) is C") == "True\n"

    def test_nothing_of_ours_is_in_it(self, cells):
        """A cell sees its own names, SUBMIT, and what every module has."""
        assert cells.output("[n for n in dir() if not n.startswith('__')]") == "['SUBMIT']\n"

    def test_the_harness_future_is_not_the_cells(self, cells):
        """Cells are not compiled with this module's `from __future__` imports."""
        assert cells.output("def f(x: int): pass\nf.__annotations__") == "{'x': <class 'int'>}\n"

    def test_an_emptied_namespace(self, cells):
        """The harness is back in the next cell."""
        cells.run("globals().clear()")

        assert cells.submitted("SUBMIT(len('abc'))") == {"output": 3}


class TestAwait:
    """`await` works at the top of a cell."""

    def test_a_statement(self, cells):
        """A cell can use `await` in a statement, as in a notebook."""
        cells.run("import asyncio\nx = await asyncio.sleep(0, 'done')")

        assert cells.output("x") == "'done'\n"

    def test_the_last_expression(self, cells):
        """Its value is what was awaited."""
        assert cells.output("import asyncio\nawait asyncio.sleep(0, 42)") == "42\n"

    def test_async_for_and_with(self, cells):
        """Asynchronous comprehensions work at the top level of a cell."""
        cells.run("async def count():\n    for n in range(3): yield n")

        assert cells.output("[n async for n in count()]") == "[0, 1, 2]\n"

    def test_its_traceback(self, cells):
        """The event loop's frames are not shown."""
        code = "async def f():\n    raise ValueError('no')\nawait f()"

        assert cells.traceback(code) == (
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 3, in <module>\n'
            "    await f()\n"
            '  File "<cell 1>", line 2, in f\n'
            "    raise ValueError('no')\n"
            "ValueError: no"
        )


@pytest.mark.usefixtures("others_wait")
class TestHarness:
    """Names that the harness gives can be shadowed by a cell, and are whole again in the next."""

    def test_a_shadowed_tool(self, open_cells):
        """The cell that did it is told."""
        cells = open_cells({"f": lambda: "real"})

        assert cells.output("f = lambda: 'own'\nprint(f())") == (
            "own\n\n[this cell rebound f; the next cell has the original again]\n"
        )
        assert cells.output("f()") == "'real'\n"

    def test_a_deleted_submit(self, cells):
        """Deleting SUBMIT counts as rebinding it, and the next cell has it again."""
        assert cells.output("del SUBMIT") == (
            "\n[this cell rebound SUBMIT; the next cell has the original again]\n"
        )
        assert cells.submitted("SUBMIT(1)") == {"output": 1}

    def test_several(self, open_cells):
        """One line names them all."""
        cells = open_cells({"f": len, "g": len})

        assert "[this cell rebound SUBMIT, f, g; " in cells.output("SUBMIT = f = g = 1")

    def test_replaced_builtins(self, cells):
        """They are back in the next cell, and additions are gone."""
        cells.run("import builtins\nbuiltins.len = None\nbuiltins.mine = 1\ndel builtins.print")

        assert cells.output("print(len('abc'), 'mine' in dir(__builtins__))") == "3 False\n"

    def test_a_shadowed_builtin(self, cells):
        """It is a variable like any other, and stays."""
        cells.run("list = [1]")

        assert cells.output("list") == "[1]\n"

    @pytest.mark.parametrize(
        "name", ["len", "isinstance", "type", "str", "getattr", "set", "max", "vars", "print"]
    )
    def test_a_builtin_that_the_driver_uses(self, cells, name):
        """Breaking one breaks the cell that did it, not the session."""
        cells.run(
            f"import builtins\nbuiltins.{name} = None\nprint('x' * 100_000)\nraise ValueError"
        )

        assert cells.output("print('fine')") == "fine\n"

    @pytest.mark.parametrize(
        "target",
        [
            "time.monotonic",
            "pickle.loads",
            "traceback.TracebackException",
            "sys.stdout",
            "sys.stderr",
        ],
    )
    def test_a_function_that_the_driver_uses(self, open_cells, target, monkeypatch):
        """Replacing one in its module does not reach the driver."""
        module, name = target.split(".")
        monkeypatch.setattr(sys.modules[module], name, getattr(sys.modules[module], name))
        cells = open_cells({"f": lambda x: x})
        cells.run(f"import {module}\n{target} = None")

        assert cells.output("print(f([1]))") == "[1]\n"
        assert cells.submitted("SUBMIT(f({1: 2}))") == {"output": {1: 2}}
        assert cells.error("1 / 0").startswith("ZeroDivisionError")

    def test_a_low_recursion_limit(self, cells):
        """It is back for what comes after the cell."""
        cells.run("import sys, inspect\nsys.setrecursionlimit(len(inspect.stack()) + 10)\n1 / 0")

        assert cells.output("sys.getrecursionlimit()") == f"{sys.getrecursionlimit()}\n"

    def test_input(self, cells):
        """`input` raises at once, because nobody would answer."""
        assert cells.error("input('?')") == (
            "RuntimeError: input() is not available: nobody sits at this REPL"
        )


class TestWake:
    """A driver that was saved is woken for a session."""

    def test_it_takes_the_sessions_limit(self, cells):
        """The image was made with another."""
        cells.driver.wake(20, 1000, "seed")

        assert "omitted" in cells.output("print('x' * 100)")

    @pytest.mark.parametrize(("seeds", "different"), [(["a", "b"], 2), (["a", "a"], 1)])
    def test_its_random_numbers_are_the_seeds(self, cells, seeds, different):
        """Two sessions from one image draw other numbers; one that is started again draws the same."""
        drawn = set()
        for seed in seeds:
            cells.run("import random\nrandom.seed(1)")
            cells.driver.wake(1000, 1000, seed)
            drawn.add(cells.output("import random\nrandom.random()"))

        assert len(drawn) == different


class TestStreams:
    """The `sys.stdout` of cells."""

    def test_between_cells_nobody_listens(self, cells):
        """A callback that a cell left behind cannot speak for the next one."""
        cells.run("import sys; kept = sys.stdout")

        cells.driver._namespace["kept"].write("late")

        assert cells.output("1") == "1\n"
        assert cells.host.emitted == []

    def test_it_is_a_text_stream(self, cells):
        """Standard output is a text stream with the attributes that libraries look for."""
        assert cells.output("import sys, io\nisinstance(sys.stdout, io.TextIOBase)") == "True\n"
        assert cells.output("sys.stdout.writable(), sys.stdout.encoding") == "(True, 'utf-8')\n"
        assert cells.output("sys.stdout.flush(), sys.stdout.isatty()") == "(None, False)\n"
        assert isinstance(io.StringIO(), io.TextIOBase)
