"""The cell driver, run by this very Python with a host that is a few lines.

What needs the real interpreter (its event loop, its limits, the exact marks in its tracebacks) is in
`test_session.py`.
"""

from __future__ import annotations

import asyncio
import builtins
import io
import json
import os
import re
import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.guest.driver import Driver
from sandbox_runtime.guest.output import Output, abridge
from sandbox_runtime.guest.submit import bind_submit, submit_usage
from sandbox_runtime.values import encoder as values

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="the driver is made for POSIX"
)


def _told(error):
    base = next(k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins")
    return {"message": str(error), "data": {"type": type(error).__name__, "base": base}}


class FakeHost:
    """A `DriverHost` whose tools are plain functions."""

    def __init__(self, tools):
        self.tools = tools
        self.emitted = []
        self.begun = []
        self.driver = None
        self.raw = ""
        self.signals = 0
        self.echoes = set()  # which of them are the same again
        self._loop = asyncio.new_event_loop()

    def call(self, mode, tool, arguments, extras):
        given = values.decode([arguments.encode(), *extras])
        try:
            if mode == "batch":
                result = [self._outcome(tool, *item) for item in given]
            else:
                args, kwargs = given
                result = self.tools[tool](*args, **kwargs)
            kind, parts = values.encode(result, tool)
        except Exception as error:  # noqa: BLE001 - as the real host does
            return ":" + json.dumps({"error": _told(error)}), []
        reply = {"result": {"kind": kind, "inline": ""}}
        return ":" + json.dumps(reply), [bytes(p) for p in parts]

    def _outcome(self, tool, args, kwargs):
        try:
            return True, self.tools[tool](*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as the real host does
            return False, _told(error)

    def begin(self, ticket, tool, arguments, extras):
        self.begun.append(tool)
        text, parts = self.call("aio", tool, arguments, extras)
        self._loop.call_later(0.01, self.driver.calls.answered, ticket, text, parts)

    def emit(self, text):
        self.emitted.append(text)

    def heard(self):
        self.signals += 1
        return self.signals not in self.echoes

    def drain_raw(self):
        raw, self.raw = self.raw, ""
        return raw

    def wait_for(self, awaitable):
        return self._loop.run_until_complete(awaitable)

    def close(self):
        self._loop.close()


class Cells:
    """A driver and how its cells ended, with the names of the wire."""

    def __init__(self, tools=None, outputs=None, output_chars=10_000):
        self.host = FakeHost(tools or {})
        self.driver = self.host.driver = Driver(self.host, output_chars)
        self.count = 0
        self.register(tools or {}, outputs)

    def register(self, tools, outputs):
        self.host.tools = tools
        fields = outputs and [{"name": name, "type": kind} for name, kind in outputs.items()]
        declared = [{"name": name, "doc": f"{name}()\n\nDoes it."} for name in tools]
        self.driver.register(json.dumps({"tools": declared, "outputs": fields}))

    def run(self, code):
        self.count += 1
        self.driver.prepare(self.count, code)
        text, *parts = self.driver.run(self.count, code)
        end = json.loads(text)
        if end["outcome"] == "submitted":
            end["outputs"] = values.decode(parts)
        return end

    def output(self, code):
        end = self.run(code)
        assert end["outcome"] == "completed", end
        return end["output"]

    def error(self, code):
        end = self.run(code)
        assert end["outcome"] == "failed", end
        return f"{end['errorType']}: {end['message']}"

    def traceback(self, code):
        """The traceback without the marks under the lines, which differ between Pythons."""
        end = self.run(code)
        assert end["outcome"] == "failed", end
        lines = end["traceback"].splitlines()
        return "\n".join(line for line in lines if not re.fullmatch(r"[ |]*[~^]+", line))

    def submitted(self, code):
        end = self.run(code)
        assert end["outcome"] == "submitted", end
        return end["outputs"]


@pytest.fixture
def open_cells():
    """Makes drivers; puts back what they change in this process."""
    own = dict(vars(builtins))
    streams, main = (sys.stdout, sys.stderr), sys.modules["__main__"]
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGALRM)]
    limit = sys.getrecursionlimit()
    made = []

    def make(*args, **kwargs):
        made.append(Cells(*args, **kwargs))
        return made[-1]

    yield make
    builtins.__dict__.clear()
    builtins.__dict__.update(own)
    (sys.stdout, sys.stderr), sys.modules["__main__"] = streams, main
    for number, handler in handlers:
        signal.signal(number, handler)
    sys.setrecursionlimit(limit)
    for cells in made:
        cells.host.close()


@pytest.fixture
def cells(open_cells):
    """A driver without tools, whose SUBMIT takes anything."""
    return open_cells()


class TestOutput:
    """A cell's output is what it printed, in order, and then the value of its last expression."""

    def test_prints_and_the_last_value(self, cells):
        """As in a notebook."""
        assert cells.output("print('a')\nprint('b')\n1 + 1") == "a\nb\n2\n"

    def test_only_the_last_statement_shows_its_value(self, cells):
        """And only if it is an expression."""
        assert cells.output("1\n2\nx = 3") == ""

    def test_none_is_not_shown(self, cells):
        """Most calls return it."""
        assert cells.output("None") == ""

    def test_stdout_and_stderr_share_one_order(self, cells):
        """The LM reads one text."""
        code = "import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.write('c'); None"

        assert cells.output(code) == "a\nb\nc"

    def test_output_is_kept_when_the_cell_raises(self, cells):
        """What was printed before is often what explains it."""
        assert cells.run("print('so far')\n1 / 0")["output"] == "so far\n"

    def test_bytes_are_shown_as_text(self, cells):
        """`sys.stdout.buffer` works; what is not UTF-8 is written out."""
        assert cells.output(r"import sys; n = sys.stdout.buffer.write(b'a\xff')") == "a\\xff"

    def test_only_text_can_be_written(self, cells):
        """The stream is a text stream like any other."""
        message = "TypeError: write() argument must be str, not int"

        assert cells.error("import sys; sys.stdout.write(3)") == message

    def test_lone_surrogates_are_written_out(self, cells):
        """No encoding can carry them."""
        assert cells.output(r"print('\ud800')") == "\\ud800\n"

    def test_raw_writes_are_added_at_the_end(self, cells):
        """Text that went to the file descriptors comes after what Python printed."""
        cells.host.raw = "raw\n"

        assert cells.output("print('a')") == "a\nraw\n"

    def test_a_replaced_stdout_is_only_replaced_for_its_cell(self, cells):
        """The next cell prints as ever."""
        cells.run("import sys, io\nsys.stdout = io.StringIO()\nprint('lost')")

        assert cells.output("print('found')") == "found\n"

    def test_redirecting_works(self, cells):
        """`contextlib.redirect_stdout` gets the text."""
        code = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as text:
    print("a")
text.getvalue()
"""

        assert cells.output(code) == "'a\\n'\n"

    def test_an_empty_cell(self, cells):
        """Nothing to do is no error."""
        assert cells.output("") == ""
        assert cells.output("# nothing") == ""

    def test_the_head_is_told_while_the_cell_runs(self, open_cells):
        """If the process dies, the host has heard the beginning."""
        cells = open_cells(output_chars=100)

        cells.run("print('x' * 1000)")

        assert "".join(cells.host.emitted) == "x" * 50


class TestAbridging:
    """Output is bounded: its head, its tail, and how much was left out."""

    def test_short_output_is_whole(self, open_cells):
        """Up to the limit nothing is lost."""
        assert open_cells(output_chars=100).output("print('x' * 99)") == "x" * 99 + "\n"

    def test_long_output(self, open_cells):
        """Half of the limit from the beginning, half from the end."""
        cells = open_cells(output_chars=20)

        assert cells.output("print('a' * 1000 + 'b' * 1000, end='')") == (
            "aaaaaaaaaa\n... (1,980 characters omitted) ...\nbbbbbbbbbb"
        )

    def test_many_small_prints(self, open_cells):
        """The count is exact however the text was cut into pieces."""
        cells = open_cells(output_chars=20)

        assert cells.output("for n in range(100_000): print(n % 10, end='')") == (
            "0123456789\n... (99,980 characters omitted) ...\n0123456789"
        )

    def test_a_huge_text_as_last_value(self, open_cells):
        """Its head and tail are shown without copying the rest."""
        cells = open_cells(output_chars=20)

        assert cells.output("'a' * 10**6") == (
            "'aaaaaaaaa\n... (999,983 characters omitted) ...\naaaaaaaa'\n"
        )

    def test_a_long_message(self, open_cells):
        """Messages and tracebacks are bounded, too."""
        end = open_cells(output_chars=20).run("raise ValueError('m' * 10**6)")

        assert len(end["message"]) < 1100
        assert len(end["traceback"]) < 1100

    @given(st.lists(st.text("abc\n", max_size=50), max_size=30), st.integers(1, 60))
    def test_head_tail_and_count(self, pieces, limit):
        """For any pieces and limit: nothing is lost uncounted."""
        output = Output(limit, lambda text: None)
        for piece in pieces:
            output.write(piece)
        whole, half = "".join(pieces), max(limit // 2, 1)

        if len(whole) <= 2 * half:
            assert output.render() == whole
        else:
            left = len(whole) - 2 * half
            middle = f"\n... ({left:,} characters omitted) ...\n"
            assert output.render() == whole[:half] + middle + whole[-half:]

    @given(st.text(max_size=100), st.integers(2, 60))
    def test_abridge(self, text, limit):
        """The same rule for a text that is there already."""
        half = limit // 2
        middle = f"\n... ({len(text) - 2 * half:,} characters omitted) ...\n"
        expected = text if len(text) <= limit else text[:half] + middle + text[-half:]

        assert abridge(text, limit) == expected


class TestNamespace:
    """One namespace for all cells of a session."""

    def test_variables_stay(self, cells):
        """That is what a REPL is."""
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
        """As in a notebook."""
        cells.run("import asyncio\nx = await asyncio.sleep(0, 'done')")

        assert cells.output("x") == "'done'\n"

    def test_the_last_expression(self, cells):
        """Its value is what was awaited."""
        assert cells.output("import asyncio\nawait asyncio.sleep(0, 42)") == "42\n"

    def test_async_for_and_with(self, cells):
        """And comprehensions."""
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


class TestTracebacks:
    """A traceback shows the cell's own lines with their numbers, and nothing of our frames."""

    def test_the_line_that_raised(self, cells):
        """Number and text."""
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
        """Whatever the LM wrote, it is told."""
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

        shown = cells.traceback(code)

        assert "driver.py" not in shown
        assert "ExceptionGroup: several (1 sub-exception)" in shown

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
        """Python says so."""
        assert "TypeError" in cells.error("class R:\n    def __repr__(self): return 3\nR()")


FIELDS = {"answer": "str", "score": "float"}


class TestSubmit:
    """SUBMIT takes the declared fields: by position, by name, or as one dict of all."""

    @pytest.mark.parametrize(
        "call",
        [
            "SUBMIT('a', 1.5)",
            "SUBMIT('a', score=1.5)",
            "SUBMIT(score=1.5, answer='a')",
            "SUBMIT({'score': 1.5, 'answer': 'a'})",
            "SUBMIT(**{'answer': 'a', 'score': 1.5})",
        ],
    )
    def test_ways_to_call_it(self, open_cells, call):
        """All the same."""
        assert open_cells(outputs=FIELDS).submitted(call) == {"answer": "a", "score": 1.5}

    @pytest.mark.parametrize(
        ("call", "problem"),
        [
            ("SUBMIT()", "is missing 'answer', is missing 'score'"),
            ("SUBMIT('a')", "is missing 'score'"),
            ("SUBMIT({'answer': 'a'})", "is missing 'score'"),
            ("SUBMIT('a', 1, 2)", "takes 2 values, got 3"),
            ("SUBMIT('a', 1, extra=2)", "has no field 'extra'"),
            ("SUBMIT('a', 1, answer='b')", "got 'answer' twice"),
            ("SUBMIT(answer='a', scores=1)", "has no field 'scores', is missing 'score'"),
        ],
    )
    def test_wrong_calls(self, open_cells, call, problem):
        """The message says everything that is wrong, and the right call with its types."""
        cells = open_cells(outputs=FIELDS)

        assert cells.error(call) == (
            f"TypeError: SUBMIT() {problem}. Call SUBMIT(answer: str, score: float)."
        )

    @pytest.mark.parametrize(
        ("call", "outputs"),
        [
            ("SUBMIT(3)", {"output": 3}),
            ("SUBMIT({'a': 1})", {"output": {"a": 1}}),
            ("SUBMIT(a=1, b=2)", {"a": 1, "b": 2}),
            ("SUBMIT()", {}),
        ],
    )
    def test_without_declared_fields(self, cells, call, outputs):
        """Any one value, or values by name."""
        assert cells.submitted(call) == outputs

    @pytest.mark.parametrize("call", ["SUBMIT(1, 2)", "SUBMIT(1, a=2)"])
    def test_without_declared_fields_only_one_is_by_position(self, cells, call):
        """Others would have no name."""
        assert cells.error(call) == "TypeError: SUBMIT() takes one value, or the outputs by name"

    def test_a_single_field_that_is_a_dict(self):
        """A dict with exactly the field's name names the field; any other dict is its value."""
        outputs = [{"name": "answer", "type": "dict"}]

        assert bind_submit(outputs, ({"a": 1},), {}) == {"answer": {"a": 1}}
        assert bind_submit(outputs, ({"answer": 1},), {}) == {"answer": 1}

    def test_its_documentation(self, open_cells):
        """`help` shows the fields."""
        doc = "SUBMIT(answer: str, score: float)\n\nEnds the run with these outputs."

        assert open_cells(outputs=FIELDS).output("print(SUBMIT.__doc__)") == doc + "\n"
        assert submit_usage(None) == "SUBMIT(output)"

    def test_nothing_runs_after_it(self, cells):
        """It ends the cell at once, also from inside a function."""
        cells.submitted("x = 1\ndef f(): SUBMIT(1)\nf()\nx = 2")

        assert cells.output("x") == "1\n"

    def test_output_comes_along(self, cells):
        """What the cell printed before."""
        assert cells.run("print('a')\nSUBMIT(1)")["output"] == "a\n"

    def test_finally_still_runs(self, cells):
        """The cell is unwound as by any exception."""
        cells.submitted("try:\n    SUBMIT(1)\nfinally:\n    x = 'cleaned'")

        assert cells.output("x") == "'cleaned'\n"

    @pytest.mark.parametrize("after", ["", "raise ValueError", "1 / 0", "import sys; sys.exit()"])
    def test_a_swallowed_submit_counts(self, cells, after):
        """`except BaseException` around it does not undo it, nor does what fails later."""
        code = f"try:\n    SUBMIT('yes')\nexcept BaseException:\n    pass\n{after}"

        assert cells.submitted(code) == {"output": "yes"}

    def test_except_exception_does_not_catch_it(self, cells):
        """LMs wrap code in `try`; that must not keep a run from ending."""
        code = "try:\n    SUBMIT(1)\nexcept Exception:\n    x = 'caught'"

        assert cells.submitted(code) == {"output": 1}

    def test_the_last_of_two_counts(self, cells):
        """A cell that caught the first may correct itself."""
        code = "try:\n    SUBMIT(1)\nexcept BaseException:\n    SUBMIT(2)"

        assert cells.submitted(code) == {"output": 2}

    def test_an_exception_of_the_same_name_is_no_submit(self, cells):
        """It is recognised by identity."""
        assert cells.error("class _SubmitSignal(BaseException): pass\nraise _SubmitSignal") == (
            "_SubmitSignal: "
        )

    def test_a_stolen_signal_is_no_submit(self, cells):
        """Raised in a later cell it submits nothing."""
        cells.submitted(
            "try:\n    SUBMIT(1)\nexcept BaseException as e:\n    stolen = e\n    raise"
        )

        assert cells.run("raise stolen")["outcome"] == "failed"
        assert cells.run("raise type(stolen)()")["outcome"] == "failed"

    def test_a_failed_submit_submits_nothing(self, cells):
        """The cell can catch the error, and goes on."""
        assert cells.output("try:\n    SUBMIT(object())\nexcept TypeError:\n    print('no')") == (
            "no\n"
        )

    def test_a_submit_kept_for_later_is_refused_between_cells(self, cells):
        """It belongs to a running cell."""
        cells.run("kept = SUBMIT")

        with pytest.raises(RuntimeError, match=r"SUBMIT\(\) was called after its cell had ended"):
            cells.driver._namespace["kept"](1)

    def test_large_values_go_beside_the_json(self, cells):
        """Bytes and long texts are parts of their own."""
        code = "SUBMIT([b'raw', 'x' * 100_000])"
        cells.driver.prepare(1, code)
        text, tree, *extras = cells.driver.run(1, code)

        assert json.loads(text)["outcome"] == "submitted"
        assert [bytes(part) for part in extras] == [b"raw", b"x" * 100_000]
        assert len(tree) < 100


class TestTools:
    """Host tools are functions of the namespace."""

    def test_arguments_and_results(self, open_cells):
        """By position and by name; values keep their types."""
        cells = open_cells({"f": lambda *args, **kwargs: (args, kwargs)})

        assert cells.output("f(1, {2}, x=b'3')") == "((1, {2}), {'x': b'3'})\n"

    def test_they_can_be_called_from_anywhere(self, open_cells):
        """From callbacks, comprehensions, generators and other functions."""
        cells = open_cells({"key": lambda x: -x, "up": str.upper})

        assert cells.output("sorted([1, 3, 2], key=key)") == "[3, 2, 1]\n"
        assert cells.output("[up(c) for c in 'ab']") == "['A', 'B']\n"
        assert cells.output("import re; re.sub('b', lambda m: up(m[0]), 'abc')") == "'aBc'\n"
        assert cells.output("list(map(up, (c for c in 'ab')))") == "['A', 'B']\n"

    def test_their_name_and_documentation(self, open_cells):
        """As `help` shows them, with the ways to call many at once."""
        cells = open_cells({"search": lambda: 1})

        shown = cells.output("print(search.__name__, search.__doc__)")

        assert shown == (
            "search search()\n"
            "\n"
            "Does it.\n"
            "\n"
            "Also: `await search.aio(...)`, so that asyncio.gather makes calls at once, and\n"
            "`search.batched(items)`, which calls search(item) for all of them at once and returns "
            "the results in\n"
            "order; an item that failed has its exception in place of a result. With several lists "
            "it takes one\n"
            "argument from each, as map() does; keyword arguments are the same for all.\n"
        )

    @pytest.mark.parametrize(
        ("error", "shown", "caught_as"),
        [
            (ValueError("no"), "ValueError: no", "ValueError"),
            (type("RateLimitError", (OSError,), {})("wait"), "RateLimitError: wait", "OSError"),
            (type("Odd", (Exception,), {})("x"), "Odd: x", "RuntimeError"),
            (Exception("plain"), "Exception: plain", "RuntimeError"),
            (TimeoutError("late"), "TimeoutError: late", "OSError"),
            (
                UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
                "HostToolError: UnicodeDecodeError: 'utf-8' codec can't decode byte 0x78 in "
                "position 0: bad",
                "RuntimeError",
            ),
        ],
        ids=lambda value: "",
    )
    def test_errors_come_under_their_own_names(self, open_cells, error, shown, caught_as):
        """And can be caught as the builtin that they derive from."""

        def fail():
            raise error

        cells = open_cells({"fail": fail})

        assert cells.error("fail()") == shown
        assert cells.output(f"try: fail()\nexcept {caught_as}: print('caught')") == "caught\n"

    def test_arguments_that_cannot_leave(self, open_cells):
        """The message names the place."""
        cells = open_cells({"f": lambda *args, **kwargs: None})

        assert cells.error("f(1, x=[object()])").startswith(
            "CannotSend: f() arguments[1]['x'][0] is of type object,"
        )

    def test_a_tool_kept_for_later_is_refused_between_cells(self, open_cells):
        """A call belongs to a running cell."""
        cells = open_cells({"f": lambda: 1})
        cells.run("kept = f")

        with pytest.raises(RuntimeError, match=r"f\(\) was called after its cell had ended"):
            cells.driver._namespace["kept"]()

    def test_registering_again_replaces_all_of_them(self, open_cells):
        """Old tools are gone, unless they were declared again."""
        cells = open_cells({"old": lambda: 1, "both": lambda: 1})

        cells.register({"both": lambda: 2, "new": lambda: 3}, None)

        assert cells.output("both(), new()") == "(2, 3)\n"
        assert cells.error("old()") == "NameError: name 'old' is not defined"


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
        """Deleting is rebinding."""
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
        """Nobody would answer."""
        assert cells.error("input('?')") == (
            "RuntimeError: input() is not available: nobody sits at this REPL"
        )


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
            "CellTimeoutError: the cell reached its time limit; its variables are kept"
        )

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
    """What cells see as `sys.stdout`."""

    def test_between_cells_nobody_listens(self, cells):
        """A callback that a cell left behind cannot speak for the next one."""
        cells.run("import sys; kept = sys.stdout")

        cells.driver._namespace["kept"].write("late")

        assert cells.output("1") == "1\n"
        assert cells.host.emitted == []

    def test_it_is_a_text_stream(self, cells):
        """Libraries ask for these."""
        assert cells.output("import sys, io\nisinstance(sys.stdout, io.TextIOBase)") == "True\n"
        assert cells.output("sys.stdout.writable(), sys.stdout.encoding") == "(True, 'utf-8')\n"
        assert cells.output("sys.stdout.flush(), sys.stdout.isatty()") == "(None, False)\n"
        assert isinstance(io.StringIO(), io.TextIOBase)
