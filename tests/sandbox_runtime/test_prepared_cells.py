"""A cell that is prepared before its code is known, as the sandbox does while the host reads the last result."""

from __future__ import annotations

import gc
import json
import signal

import pytest

from sandbox_runtime import Completed, Submitted

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="the driver is made for POSIX"
)


class TestDriver:
    """`begin` completes what `prepare` has prepared, or refuses."""

    def test_its_traceback_shows_its_code(self, cells):
        """The lines of the code are known to `linecache`, although they came last."""
        cells.driver.prepare(1, "")
        code = "x = 1\nx / 0"

        assert cells.driver.begin(1, code)
        [text] = cells.driver.run(1, code)

        assert "    x / 0\n" in json.loads(text)["traceback"]

    def test_another_cell_has_to_be_prepared_again(self, cells):
        """Its lines would be shown for the cell that was expected."""
        cells.driver.prepare(1, "")

        assert not cells.driver.begin(2, "1")

    def test_tools_become_importable_when_a_cell_imports(self, open_cells):
        """To look for a module of a tool's name takes a millisecond, and most cells import no tool."""
        cells = open_cells({"f": lambda: "real"})
        cells.driver.prepare(1, "")
        cells.register({"g": lambda: "other"}, None)

        assert cells.driver.begin(1, "g()")
        assert not cells.driver.begin(1, "import g; g()")
        cells.driver.prepare(1, "import g; g()")
        assert cells.driver.begin(1, "import g; g()")

    def test_time_between_cells_is_not_that_of_the_output(self, cells):
        """The first text that a cell prints waits for more, however long ago the cell was prepared."""
        cells.driver.prepare(1, "")
        cells.driver.output._sent_at -= 60
        cells.driver.begin(1, "print('x')")
        cells.driver.run(1, "print('x')")

        assert cells.host.emitted == []

    def test_nothing_else_holds_the_reserve_of_memory(self, cells):
        """It is freed when a cell fails, whatever was kept of the cells before."""
        driver = cells.driver
        for number in (1, 2):
            driver.prepare(number, "")
            driver.begin(number, "x = 1")
            driver.run(number, "x = 1")
        driver.prepare(3, "")

        holders = [one for one in gc.get_referrers(driver._reserve) if one is not vars(driver)]

        assert type(driver._reserve) is bytearray
        assert not [one for one in holders if type(one) is list]


class TestSession:
    """The work between two cells of a real session."""

    def test_tools_that_change_between_cells(self, opened):
        """The next cell has the new ones, under their names and as modules."""
        session = opened(tools={"f": lambda: "first"})
        assert session.run_cell("print(f())") == Completed("first\n")

        session.register({"g": lambda: "second"}, {"answer": "str"})

        assert session.run_cell("print(g(), 'f' in dir())") == Completed("second False\n")
        assert session.run_cell("import g\nprint(g())") == Completed("second\n")
        assert session.run_cell("SUBMIT('done')") == Submitted({"answer": "done"}, "")

    def test_a_variable_that_replaces_what_a_cell_has_left(self, opened):
        """Its finalizer changes the harness after that was prepared, and the next cell has it whole again."""
        session = opened()
        session.run_cell(
            "import sandbox_runtime.guest.driver as driver\n"
            "class Last:\n    def __del__(self):\n        driver.compile_cell = None\n"
            "x = Last()"
        )
        session.assign("x", 1)

        assert session.run_cell("print(x)") == Completed("1\n")

    def test_keys_that_are_no_texts(self, opened):
        """They are gone in the next cell, and dictionaries that once had some are prepared like any other."""
        session = opened()
        change = "import linecache, sys\nfor names in (globals(), vars(sys), sys.modules, linecache.cache):\n    names[1] = 2\n"
        session.run_cell(change)
        assert session.run_cell("import sys; print(1 in globals(), 1 in sys.modules)") == Completed(
            "False False\n"
        )
        session.run_cell(change + "    del names[1]")
        for number in range(3):
            assert session.run_cell(f"print({number})") == Completed(f"{number}\n")

    def test_a_variable_under_the_name_of_a_new_tool(self, opened):
        """Its finalizer has no part in what is tracked as the tools."""
        session = opened(tools={"f": lambda: "first"})
        session.run_cell(
            "from sandbox_runtime.guest.entry import driver\n"
            "class Last:\n    def __del__(self):\n        driver._harness['f'] = lambda: 'forged'\n"
            "g = Last()"
        )
        session.register({"f": lambda: "second", "g": lambda: "third"}, {"answer": "str"})

        assert session.run_cell("print(f(), g())") == Completed("second third\n")
        assert session.run_cell("print(f(), g())") == Completed("second third\n")

    def test_a_large_submission_is_freed(self, opened):
        """Nothing of it is left in the next cell."""
        session = opened(outputs={"rows": "list"})
        session.run_cell("import gc, weakref\nclass Row(list): pass")
        session.run_cell("rows = Row([1, 2])\nlast = weakref.ref(rows)")
        session.run_cell("kept = [rows]\ndel rows\nSUBMIT(rows=kept.pop())")

        assert session.run_cell("print(last())") == Completed("None\n")
