"""Results, exceptions and side effects of tools on the host, as a cell gets them."""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import csv
import datetime
import io
import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import zoneinfo
from collections.abc import Mapping
from pathlib import Path

import dspy
import pytest

from dspy_rlm.tools.results import MAX_ITEMS, settled
from sandbox_runtime import TextFile


def letters():
    yield from "abc"


async def later_letters():
    for letter in "abc":
        await asyncio.sleep(0)
        yield letter


async def one():
    return 1


def outcome(play, tool, code="tool()", **options):
    """The repr of what a cell gets, or the name and the text of the error."""
    rlm, _ = play(
        "q -> a",
        f"try: SUBMIT(repr({code}))\n"
        "except Exception as error: SUBMIT(f'{type(error).__name__}: {error}')",
        tools={"tool": tool},
        **options,
    )
    return rlm(q="").a


class TestLazyResults:
    """Iterators become lists, so a cell can index and count them."""

    @pytest.mark.parametrize(
        ("tool", "expected"),
        [
            (letters, ["a", "b", "c"]),
            (later_letters, ["a", "b", "c"]),
            (lambda: map(str, [1, 2]), ["1", "2"]),
            (lambda: filter(None, [0, 1]), [1]),
            (lambda: zip([1], "a", strict=True), [(1, "a")]),
            (lambda: enumerate("a"), [(0, "a")]),
            (lambda: reversed([1, 2]), [2, 1]),
            (lambda: {"a": 1}.keys(), ["a"]),
            (lambda: {"a": 1}.values(), [1]),
            (lambda: {"a": 1}.items(), [("a", 1)]),
            (lambda: itertools.chain([1], [2]), [1, 2]),
            (lambda: itertools.islice(itertools.count(), 2), [0, 1]),
            (lambda: iter([1, 2]), [1, 2]),
            (lambda: iter("ab"), ["a", "b"]),
            (lambda: csv.reader(["a,b"]), [["a", "b"]]),
            (lambda: sqlite3.connect(":memory:").execute("select 1"), [(1,)]),
            (lambda: later_letters(), ["a", "b", "c"]),
            (lambda: one(), 1),
            (lambda: (item for item in ()), []),
        ],
    )
    def test_they_become_lists(self, play, tool, expected):
        """Of generators, asynchronous ones, dict views and iterators of the standard library."""
        assert outcome(play, tool) == repr(expected)

    @pytest.mark.parametrize(
        "call", ["tool.batched([1, 2])", "await asyncio.gather(*map(tool.aio, [1, 2]))"]
    )
    @pytest.mark.parametrize("is_async", [False, True])
    def test_in_every_form_of_call(self, play, call, is_async):
        """`batched` and `aio` return lists too."""

        def tool(n):
            yield n

        async def later(n):
            yield n

        code = f"import asyncio\nSUBMIT([*({call})])"
        rlm, _ = play("q -> a: list", code, tools={"tool": later if is_async else tool})

        assert rlm(q="").a == [[1], [2]]
        assert asyncio.run(rlm.acall(q="")).a == [[1], [2]]

    def test_an_endless_iterator_is_an_error(self, play):
        """It says how many items a result may have."""
        assert outcome(play, itertools.count).startswith(
            f"ValueError: tool() yields more than a result may have ({MAX_ITEMS:,} items"
        )

    def test_texts_of_an_iterator_are_bounded(self):
        """An iterator of few huge texts must not fill the host's memory."""
        text = "x" * (64 * 1024 * 1024)

        with pytest.raises(ValueError, match="yields more than a result may have"):
            settled("tool", itertools.repeat(text))

    def test_an_error_in_the_middle(self, play):
        """An exception that a generator raises is raised in the cell."""

        def tool():
            yield 1
            raise LookupError("gone")

        assert outcome(play, tool) == "LookupError: gone"


class TestForeignResults:
    """A result that no cell can have is an error that says what the tool must return."""

    @pytest.mark.parametrize(
        ("tool", "expected"),
        [
            (
                lambda: io.TextIOWrapper(io.BytesIO()),
                "TypeError: tool() returned an open file. The tool must return its content",
            ),
            (
                concurrent.futures.Future,
                "TypeError: tool() returned a Future. The tool must return its value",
            ),
            (threading.Lock, "ValueCrossingError: The result of tool() is of type _thread.lock, "),
            (
                lambda: {"a": [letters()]},
                "ValueCrossingError: The result of tool()['a'][0] is of type generator",
            ),
        ],
    )
    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    def test_the_error_names_the_type(self, play, tool, expected):
        """And the place of the value within the result."""
        assert outcome(play, tool).startswith(expected)

    def test_cyclic_results(self, play):
        """A list or dict that contains itself crosses as it is."""
        cycle: list = [1]
        cycle.append(cycle)

        assert outcome(play, lambda: cycle, "(lambda c: (c[0], c[1] is c))(tool())") == "(1, True)"

    def test_predictions(self, play):
        """The fields of a prediction are attributes and items in the cell."""
        tool = lambda: dspy.Prediction(answer="x", n=1)  # noqa: E731

        assert outcome(play, tool, "(lambda p: (p.answer, p['n'], dict(p)))(tool())") == (
            "('x', 1, {'answer': 'x', 'n': 1})"
        )
        assert outcome(play, lambda: dspy.Prediction(**{"a b": 1}), "tool()['a b']") == "1"


class Markup(str):
    """A text of a template engine; its own methods are not called."""

    def __str__(self) -> str:
        return "replaced"


class Attributes(dict):
    __getattr__ = dict.get

    def items(self):
        return []


class Headers(Mapping):
    def __init__(self, values):
        self._values = values

    def __getitem__(self, key):
        return self._values[key]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


class Zone(zoneinfo.ZoneInfo):
    pass


class Moment(datetime.datetime):
    pass


def rows():
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    found = connection.execute("select 1 as a, 'x' as b").fetchall()
    connection.close()
    return found


class TestResultsOfTheirOwnClass:
    """A class that exists on the host only is no obstacle where its values are built-in ones at heart."""

    @pytest.mark.parametrize(
        ("result", "expected"),
        [
            (Markup("x"), "x"),
            ([{"k": Markup("x")}], [{"k": "x"}]),
            (Attributes(a=Attributes(b=1)), {"a": {"b": 1}}),
            (Headers({"A": Markup("v")}), {"A": "v"}),
            (type("I", (int,), {})(5), 5),
            (type("F", (float,), {})(-0.0), -0.0),
            (type("B", (bytes,), {})(b"x"), b"x"),
            (type("L", (list,), {})([1]), [1]),
            (type("T", (tuple,), {})((1, 2)), (1, 2)),
            (type("Row", (tuple,), {"_asdict": lambda self: {"a": self[0]}})((1,)), {"a": 1}),
            (type("S", (set,), {})({1}), {1}),
            (type("Z", (frozenset,), {})({1}), frozenset({1})),
            (type("D", (datetime.date,), {})(2024, 1, 2), datetime.date(2024, 1, 2)),
            (
                Moment(2024, 1, 2, 3, tzinfo=Zone("Europe/Paris")),
                datetime.datetime(2024, 1, 2, 3, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
            ),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_they_become_built_in_values(self, play, result, expected):
        """The additions of a subclass are lost, which is better than the loss of the tool."""
        assert outcome(play, lambda: result) == repr(expected)
        assert outcome(play, lambda _: result, "tool.batched([1])[0]") == repr(expected)

    def test_rows_of_a_database_become_dicts(self, play):
        """Rows of sqlite3 have their columns' names, as results and as inputs."""
        assert outcome(play, rows) == repr([{"a": 1, "b": "x"}])
        rlm, _ = play("rows -> a", "SUBMIT(rows[0]['b'])")

        assert rlm(rows=rows()).a == "x"

    def test_a_subclass_in_a_cycle_is_an_error(self, play):
        """It cannot be copied; the cell gets one error."""
        cycle = Attributes()
        cycle["me"] = cycle

        assert outcome(play, lambda: cycle).startswith("ValueCrossingError: The result of tool()")


def raising(error):
    def tool():
        raise error

    return tool


def noted():
    error = ValueError("wrong")
    error.add_note("Try another.")
    return error


async def in_a_task_group():
    async def fail():
        raise LookupError("no such item")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())


class TestTextsOfErrors:
    """The cell sees what went wrong, whatever the exception is made of."""

    @pytest.mark.parametrize(
        ("tool", "expected"),
        [
            (raising(noted()), "ValueError: wrong\nTry another."),
            (
                raising(
                    ExceptionGroup("all", [ValueError("a"), ExceptionGroup("b", [KeyError("k")])])
                ),
                "HostToolError: ExceptionGroup: all (2 sub-exceptions)\nValueError: a\nKeyError: k",
            ),
            (
                in_a_task_group,
                "HostToolError: ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n"
                "LookupError: no such item",
            ),
        ],
    )
    def test_notes_and_the_parts_of_a_group(self, play, tool, expected):
        """The text of a group alone only counts its parts."""
        assert outcome(play, tool) == expected

    def test_a_long_group_is_cut(self, play):
        """It names the first parts, and counts the others."""
        group = ExceptionGroup("all", [ValueError(f"e{n}") for n in range(9)])

        text = outcome(play, raising(group))
        assert "ValueError: e4" in text
        assert "e5" not in text
        assert text.endswith("and 4 more")


class TestToolsThatWouldEndTheProgram:
    """Any exception of a tool is an error of its call; the run goes on."""

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (SystemExit(2), "RuntimeError: tool() called sys.exit(2), which ends a program"),
            (GeneratorExit("g"), "RuntimeError: tool() raised GeneratorExit: g"),
            (BaseException("b"), "RuntimeError: tool() raised BaseException: b"),
            (asyncio.CancelledError("c"), "RuntimeError: tool() raised CancelledError: c"),
        ],
    )
    def test_exceptions_that_are_no_errors(self, play, error, expected, is_async):
        """In a plain run, an asynchronous one, and one whose calls have a time limit."""

        def tool():
            raise error

        async def later():
            raise error

        source = later if is_async else tool
        assert outcome(play, source).startswith(expected)
        assert outcome(play, source, max_seconds=60).startswith(expected)
        rlm, _ = play(
            "q -> a",
            "try: await tool.aio()\nexcept Exception as e: print(e)",
            "SUBMIT('on')",
            tools={"tool": source},
        )
        result = asyncio.run(rlm.acall(q=""))
        assert (result.a, "tool() " in result.trajectory[0]["output"]) == ("on", True)

    def test_stop_iteration_ends_no_loop(self, play):
        """Otherwise `list(map(tool, items))` in a cell would be short without a word."""

        def tool(_item):
            return next(iter(()))

        assert outcome(play, tool, "list(map(tool, [1, 2]))").startswith(
            "RuntimeError: tool() raised StopIteration"
        )

    def test_an_argument_parser(self, play, capsys):
        """Its usage goes to the host's stderr, its exit becomes an error in the cell."""

        def tool(line: str) -> int:
            parser = argparse.ArgumentParser(prog="tool")
            parser.add_argument("--n", type=int)
            return parser.parse_args(line.split()).n

        assert outcome(play, tool, "tool('--n 3')") == "3"
        assert outcome(play, tool, "tool('--m 3')").startswith(
            "RuntimeError: tool() called sys.exit(2)"
        )
        assert "usage: tool" in capsys.readouterr().err

    def test_ctrl_c_in_a_thread_of_a_tool(self, play):
        """A KeyboardInterrupt that cannot be Ctrl-C is an error like others."""

        def tool():
            raise KeyboardInterrupt

        assert outcome(play, tool, max_seconds=60).startswith(
            "RuntimeError: tool() raised KeyboardInterrupt"
        )

    def test_ctrl_c_ends_the_run(self, play):
        """In the main thread it is the user's, and reaches the caller with the report."""

        def tool():
            raise KeyboardInterrupt

        rlm, _ = play("q -> a", "tool()", tools=[tool])

        with pytest.raises(KeyboardInterrupt) as caught:
            rlm(q="")
        assert caught.value.run.status == "failed"


class TestTheHost:
    """A tool runs in the host process; what it does there stays there."""

    def test_its_prints_stay_on_the_hosts_stdout(self, play, capfd):
        """The cell sees the result only."""

        def tool():
            print("from the tool")  # noqa: T201
            os.write(1, b"raw\n")
            return 1

        rlm, _ = play("q -> a", "print('in the cell', tool())", "SUBMIT('')", tools=[tool])

        assert rlm(q="").trajectory[0]["output"] == "in the cell 1"
        assert capfd.readouterr().out == "from the tool\nraw\n"

    def test_its_arguments_are_copies(self, play):
        """A tool that changes a list changes its own."""

        def tool(items: list) -> int:
            items.clear()
            return len(items)

        rlm, _ = play("q -> a", "x = [1, 2]\nSUBMIT(f'{tool(x)} {x}')", tools=[tool])

        assert rlm(q="").a == "0 [1, 2]"

    def test_it_may_change_the_working_directory(self, play, tmp_path, monkeypatch):
        """Lazy texts, later cells and later runs work as before."""
        monkeypatch.chdir(tmp_path)
        Path("text.txt").write_text("hello")
        (tmp_path / "other").mkdir()

        def tool():
            os.chdir("other")

        rlm, _ = play("text -> a", "print(text[:2])\ntool()", "SUBMIT(text[2:])", tools=[tool])

        assert rlm(text=TextFile("text.txt")).a == "llo"

    def test_reading_stdin_fails_at_once_without_one(self, tmp_path):
        """`input()` in a tool is an error in the cell, if the host has no input."""
        program = tmp_path / "program.py"
        program.write_text(
            "import dspy\n"
            "from dspy_rlm import RLM\n"
            "from dspy_rlm.testing import Action, PolicyServer, scripted\n"
            "def ask() -> str:\n"
            "    return input('?')\n"
            "code = 'try: ask()\\nexcept EOFError as error: SUBMIT(str(error))'\n"
            "with PolicyServer({'root': scripted(Action('', code))}) as server:\n"
            "    with dspy.context(lm=server.lm('root'), adapter=dspy.ChatAdapter()):\n"
            "        print(RLM('q -> a', tools=[ask])(q='').a)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", str(program)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )

        assert "EOF when reading a line" in ended.stdout
