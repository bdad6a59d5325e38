"""Host tools in a session's cells, and those with a wrapper in the sandbox."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import types

import pytest
from session_cells import (
    echo,
    everything_in,
    failure,
    output,
)

from sandbox_runtime import (
    SessionBusyError,
    Submitted,
    WrappedTool,
    open_session,
)


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
        """Tools can be called by position and name, from callbacks, comprehensions and coroutines."""
        assert output(session, code) == printed + "\n"

    def test_a_tool_runs_in_the_callers_thread_and_context(self, reregister):
        """A tool sees the caller's context variables."""
        seen = contextvars.ContextVar("seen")
        seen.set("mine")
        session = reregister(tools={"where": lambda: (seen.get(), threading.get_ident())})

        assert output(session, "where()") == f"{('mine', threading.get_ident())}\n"

    @pytest.mark.parametrize(
        ("kind", "caught_as"),
        [
            ("ValueError", "ValueError"),
            ("QuotaError", "OSError"),
            ("TimeoutError", "OSError"),
            ("Exception", "RuntimeError"),
        ],
    )
    def test_errors_come_under_their_own_names(self, session, kind, caught_as):
        """A tool's exception keeps its name, and can be caught as its builtin base."""
        result = failure(session, f"fail({kind!r}, 'the text')")

        assert (result.error_type, result.message) == (kind, "the text")
        assert output(session, f"try: fail({kind!r})\nexcept {caught_as}: print('caught')") == (
            "caught\n"
        )

    def test_the_traceback_of_a_tools_error(self, session):
        """The traceback shows the call in the cell, and no frame of the driver or the host."""
        assert everything_in(failure(session, "fail()")) == (
            "Traceback (most recent call last):\n"
            '  File "<cell>", line 1, in <module>\n'
            "    fail()\n"
            "    ~~~~^^\n"
            "ValueError: no\n"
        )

    def test_an_error_that_has_no_text(self, reregister):
        """An exception whose text raises is reported by its name."""

        class BrokenError(ValueError):
            def __str__(self):
                raise OSError("evil")

        def tool():
            raise BrokenError

        result = failure(reregister(tools={"tool": tool}), "tool()")

        assert (result.error_type, result.message) == (
            "BrokenError",
            "(its text could not be made)",
        )

    def test_wrong_arguments(self, reregister):
        """The message has the tool's signature, in Python's own wording."""

        def search(query: str, limit: int = 3) -> list[str]:
            return []

        result = failure(reregister(tools={"search": search}), "search(3, 4, 5)")

        assert result.error_type == "TypeError"
        assert result.message.startswith("search(query: ")
        assert result.message.endswith("too many positional arguments")

    def test_a_type_error_inside_a_tool(self, reregister):
        """A TypeError of the tool itself is not reported as a wrong call."""
        result = failure(reregister(tools={"bad": lambda x: x + 1}), "bad('a')")

        assert result.message == 'can only concatenate str (not "int") to str'

    def test_help(self, reregister):
        """`help` shows a tool's signature and documentation."""

        def search(query):
            """Finds things.

            All of them.
            """

        session = reregister(tools={"search": search})

        assert output(session, "print(search.__doc__)").startswith(
            "search(query)\n\nFinds things.\n\nAll of them.\n"
        )

    def test_a_tool_without_a_signature(self, reregister):
        """Builtins without a signature can be called as tools."""
        session = reregister(tools={"biggest": max})

        assert output(session, "biggest(1, 3, 2), biggest.__doc__[:12]") == "(3, 'biggest(...)')\n"

    def test_a_result_that_cannot_cross(self, reregister):
        """The cell sees the error, and the session continues."""
        result = failure(reregister(tools={"tool": lambda: [threading.Lock()]}), "tool()")

        assert result.message.startswith("The result of tool()[0] is of type _thread.lock, ")

    @pytest.mark.parametrize(
        "make", ["'x' * 50_000_000", "b'x' * 50_000_000", "['x' * 50_000_000]"]
    )
    def test_fifty_megabytes(self, session, make):
        """Arguments and results may have any size below the limit."""
        assert output(session, f"big = {make}\nback = echo(big)\nback == big") == "True\n"
        assert output(session, "del big, back") == ""

    def test_many_calls(self, session):
        """Each call is one small round trip."""
        assert output(session, "sum(echo(n) for n in range(2000))") == "1999000\n"

    def test_ctrl_c_goes_to_the_caller(self, opened):
        """Ctrl-C in a tool closes the session and propagates to the caller."""

        def tool():
            raise KeyboardInterrupt

        session = opened(tools={"tool": tool})

        with pytest.raises(KeyboardInterrupt):
            session.run_cell("tool()")
        assert session.closed

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            (SystemExit, "tool() called sys.exit('x'), which ends a program"),
            (GeneratorExit, "tool() raised GeneratorExit: x"),
            (BaseException, "tool() raised BaseException: x"),
            (StopIteration, "tool() raised StopIteration: an iterator in it had no more items"),
        ],
    )
    @pytest.mark.parametrize("call", ["tool()", "await tool.aio()", "list(map(tool, range(0, 2)))"])
    def test_a_tool_that_ends_its_program_ends_only_its_call(
        self, reregister, kind, expected, call
    ):
        """Any exception of a tool is an error in the cell, in a call of any form; no loop ends early."""

        def tool(_item=0):
            raise kind("x")

        async def later(_item=0):
            raise kind("x")

        session = reregister(tools={"tool": tool, "later": later})

        assert failure(session, call).message.startswith(expected)
        if kind is not StopIteration:  # Python itself turns that into a RuntimeError in a coroutine
            text = expected.replace("tool()", "later()")
            assert failure(session, call.replace("tool", "later")).message.startswith(text)
        assert output(session, "print(1)") == "1\n"

    def test_a_batch_with_a_tool_that_exits(self, reregister):
        """An item whose call exits has its error in its place."""

        def tool(item):
            if item == 2:
                raise SystemExit(item)
            return item

        session = reregister(tools={"tool": tool})

        assert output(session, "[type(r).__name__ for r in tool.batched([1, 2, 3])]").startswith(
            "['int', 'RuntimeError', 'int']\n"
        )

    def test_a_tool_cannot_use_its_session(self, reregister):
        """The session is busy with the cell that calls; the cell sees the error."""
        session = reregister(
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

    def test_another_thread_cannot_use_it_either(self, reregister):
        """While a cell runs, another thread gets an error."""
        inside, done = threading.Event(), threading.Event()

        def tool():
            inside.set()
            done.wait(60)

        session = reregister(tools={"tool": tool})
        runner = threading.Thread(target=session.run_cell, args=["tool()"])
        runner.start()
        inside.wait(60)
        with pytest.raises(SessionBusyError):
            session.run_cell("1")
        done.set()
        runner.join()

        assert output(session, "1") == "1\n"

    def test_registering_again(self, reregister):
        """Tools and outputs are replaced; variables stay."""
        session = reregister(tools={"old": echo}, outputs={"a": "int"})
        session.run_cell("kept = 1")

        session.register({"new": echo}, {"b": "int"})

        assert output(session, "new(kept)") == "1\n"
        assert failure(session, "old(1)").error_type == "NameError"
        assert session.run_cell("SUBMIT(b=2)") == Submitted({"b": 2})

    @pytest.mark.parametrize("name", ["a b", "1a", "", "class", "SUBMIT", "a.b", 3])
    def test_names_that_are_none(self, reregister, name):
        """Invalid names are refused for tools and outputs."""
        with pytest.raises(ValueError, match=r"cannot be a name|own name"):
            reregister(tools={name: echo})
        with pytest.raises(ValueError, match=r"cannot be a name|own name"):
            reregister(outputs={name: "str"})

    def test_a_session_that_would_have_such_a_name(self, opened, deno_children):
        """A session that is refused for a name leaves no process running."""
        before = deno_children()

        with pytest.raises(ValueError, match="cannot be a name"):
            opened(tools={"a b": echo})

        assert deno_children() == before


class TestFronts:
    """Host tools with a wrapper in the sandbox."""

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
        """The wrapper converts the cell's arguments and the function's result."""
        tools = {name: WrappedTool(lambda text: text * 2, self.MODULES) for name in ("f", "g")}
        with open_session(tools=tools) as session:
            assert session.run_cell("f('ab') + g('c')").output == "'ABAB!CC!'\n"

    def test_its_frames_are_not_in_tracebacks(self):
        """Tracebacks show only the cell's own lines."""
        with open_session(tools={"f": WrappedTool(str, self.MODULES)}) as session:
            failed = session.run_cell("f(5)")

        assert failed.error_type == "TypeError"
        assert failed.traceback.count("File ") == 1
        assert "f wants text" in failed.traceback

    def test_it_is_whole_again_in_every_cell_and_after_a_restart(self):
        """Rebinding the name or losing the process does not affect the wrapper."""
        with open_session(tools={"f": WrappedTool(str.strip, self.MODULES)}) as session:
            session.run_cell("f = None")
            assert session.run_cell("f(' a')").output == "'A!'\n"
            os.kill(session.pid, signal.SIGKILL)
            assert session.run_cell("f(' b')").output == "'B!'\n"
            assert session.restarts == 1

    def test_a_module_can_be_imported(self):
        """A module tool can be imported by its name, and is built at its first use."""
        source = (
            "import types\ndef front(name, call):\n    made = types.ModuleType(name)\n"
            "    made.double = lambda x: call(x, x)\n    return made\n"
        )
        tools = {"sums": WrappedTool(lambda a, b: a + b, {"sums_entry": source}, kind="module")}
        with open_session(tools=tools) as session:
            assert session.run_cell("import sums\nsums.double(4)").output == "8\n"
            assert session.run_cell("from sums import double\ndouble(2)").output == "4\n"
            assert session.run_cell("sums.nothing").error_type == "AttributeError"

    def test_a_display_takes_the_last_value(self):
        """A display receives the last value and returns the text to show; cells have no name for it."""
        spent = []
        source = (
            "def front(name, call):\n"
            "    return lambda value: value if isinstance(value, int) else call(value)\n"
        )
        tools = {"show": WrappedTool(spent.append, {"show_entry": source}, kind="display")}
        with open_session(tools=tools) as session:
            assert session.run_cell("'told'").output == ""
            assert session.run_cell("print('p')\n5").output == "p\n5\n"
            assert session.run_cell("None; x = 'not the last value'").output == ""
            assert session.run_cell("show").error_type == "NameError"
        assert spent == ["told"]

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize(
        "change",
        [
            "sums.double = lambda x: 'evil'",
            "sums.double.__code__ = (lambda x: 'evil').__code__",
            "sums.Sum.of = lambda self, x: 'evil'",
            "sums.Sum.__call__ = lambda self, x: 'evil'",
            "import sys, types\nsys.modules['sums'] = types.ModuleType('sums')",
            "import sums_entry\nsums_entry.double = lambda x: 'evil'",
            "import sums_entry, sys\nsums_entry.Base.of = lambda self, x: 'evil'\n"
            "sys.modules['sums_entry'] = None",
            "sums.__class__ = type('Other', (type(sums),), {'double': lambda x: 'evil'})",
        ],
    )
    @pytest.mark.parametrize("used", ["", "sums.Sum\n"])
    def test_a_change_of_a_module_ends_with_its_cell(self, change, used):
        """Changes by a cell are undone, whether the module was used before or not; subclasses defined by cells stay."""
        source = (
            "import types\n"
            "def double(x):\n    return x + x\n"
            "class Base:\n    def of(self, x):\n        return double(x)\n"
            "def front(name, call):\n    made = types.ModuleType(name)\n"
            "    made.double = lambda x: call(x, x)\n    made.Sum = type('Sum', (Base,), {})\n"
            "    return made\n"
        )
        tools = {"sums": WrappedTool(lambda a, b: a + b, {"sums_entry": source}, kind="module")}
        with open_session(tools=tools) as session:
            session.run_cell(f"import sums\n{used}")
            session.run_cell(f"import sums\n{change}")
            result = session.run_cell(
                "import sums\nfour = sums.double(4)\nclass Own(sums.Sum):\n    pass\nown = Own()\n"
                "four, sums.Sum().of(2), own.of(3)"
            )
            assert result.output == "(8, 4, 6)\n"
            assert session.run_cell("isinstance(own, sums.Sum), own.of(3)").output == "(True, 6)\n"
            assert session.restarts == 0
