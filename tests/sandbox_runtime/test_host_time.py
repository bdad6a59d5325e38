"""The host's processor time that the calls of one cell take together: counted in all threads, without the tools' own."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from cells import output

from sandbox_runtime import Limits, TextFile, open_session
from sandbox_runtime.helpers import counted, uncounted
from sandbox_runtime.host_time import HostTime, add_host_seconds, host_seconds_left

MOST = 0.2

# Repeats an expression until the host refuses it, and prints how it ended: 20 times as many calls as it should take
# on a slow machine would have to be allowed for it to go on.
UNTIL_REFUSED = """
problem = "never refused"
try:
    for _ in range({count}):
        {call}
except TimeoutError as error:
    problem = str(error)
print(problem)
"""

# Calls of a cell that cost the host time, each with the number that is far beyond any bound of `MOST`.
CALLS = {
    "a large argument": ("take([1.5] * 100_000)", 10_000),
    "a large result": ("give()", 10_000),
    "a batch of large arguments": ("take.batched([[1.5] * 50_000] * 4)", 5_000),
    "a batch of large results": ("give.batched([0] * 4)", 5_000),
    "an awaited call": ("await take.aio([1.5] * 100_000)", 10_000),
    "an awaited large result": ("await give.aio()", 10_000),
    "arguments that do not fit": ("swallowed(take, *([[1.5] * 50_000] * 2))", 10_000),
    "a text that is searched": ("text.find('nowhere', 1)", 100_000),
    "a text that is searched backwards": ("text.rfind('nowhere')", 100_000),
    "a text whose matches are counted": ("text.count('nowhere')", 100_000),
    "a regular expression": ("text.search('q+z+x+')", 100_000),
    "a regular expression that does not end": ("text.search('(1*)*$')", 1_000),
    "a pattern that is wrong": ("swallowed(text.search, '(' * 100)", 1_000_000),
}

HELPERS = """
import asyncio
def swallowed(call, *args):
    try:
        call(*args)
    except TimeoutError:
        raise
    except Exception:
        pass
"""


def burn(seconds: float) -> str:
    """Takes so much processor time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return "done"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session whose cells may take `MOST` seconds of the host, with a text of 6 MB."""
    file = tmp_path_factory.mktemp("texts") / "text.txt"
    file.write_text("11111 qqqq zzz\n" * 400_000)
    rows = [1.5] * 100_000
    tools = {
        "take": lambda value: None,
        "give": lambda _=None: rows,
        "burn": burn,
    }
    with open_session(tools=tools, limits=Limits(host_seconds=MOST, concurrent_calls=2)) as one:
        one.assign("text", TextFile(file))
        assert output(one, HELPERS) == ""
        yield one


class TestOneCell:
    """The calls of one cell are bounded together."""

    @pytest.mark.sampled(5)
    @pytest.mark.parametrize("kind", CALLS)
    def test_calls_are_refused_in_the_end(self, session, kind):
        """Each way to cost the host time ends with an error that names the limit, and the next cell can call again."""
        call, count = CALLS[kind]

        problem = output(session, UNTIL_REFUSED.format(call=call, count=count))

        assert "Limits.host_seconds" in problem
        assert output(session, "take(1)") == ""

    def test_a_call_after_it_is_refused_unread(self, session):
        """Once the time is over, no call of the cell is served, whatever it is."""
        code = UNTIL_REFUSED.format(call="give()", count=10_000)
        code += "for call in (give, lambda: text.find('q'), lambda: take.batched([1])):\n"
        code += "    try: print(call())\n    except TimeoutError as error: print(str(error)[:30])\n"

        lines = output(session, code).splitlines()

        assert lines[1:] == ["the calls of this cell have tak"[:30]] * 3

    def test_time_of_the_users_tools_does_not_count(self, session):
        """Not in the cell's thread, in others, or in a batch."""
        code = (
            f"burn({2 * MOST})\nawait burn.aio({2 * MOST})\nburn.batched([{2 * MOST}] * 2)\n"
            "print(burn(0.1), text[:5])"
        )

        assert output(session, code) == "done 11111"

    def test_time_is_that_of_one_cell(self, session):
        """Many cells may take more than one."""
        for _ in range(4):
            assert output(session, "for _ in range(12): give()") == ""


class TestClocks:
    """Blocks that are counted and not, in one thread and in several."""

    def test_only_counted_blocks_count(self):
        """A block inside one that is not counted can be counted again."""
        cell = HostTime(100)

        with cell.counting():
            with uncounted():
                burn(0.2)
                with counted():
                    burn(0.05)
                burn(0.2)
            burn(0.05)
        burn(0.2)

        assert 0.1 <= 100 - cell.left < 0.2

    def test_an_outer_cell_waits_for_an_inner_one(self):
        """The time of a tool that runs a sandbox of its own is the inner cell's."""
        outer, inner = HostTime(100), HostTime(100)

        with outer.counting():
            burn(0.05)
            with inner.counting():
                burn(0.2)
            burn(0.05)

        assert 0.1 <= 100 - outer.left < 0.2
        assert 100 - inner.left >= 0.2

    def test_threads_count_together(self):
        """All threads that work for a cell are added."""
        cell = HostTime(100)

        def work() -> None:
            with cell.counting():
                burn(0.1)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 0.3 <= 100 - cell.left < 0.6

    def test_a_clock_is_read_while_it_runs(self):
        """What is left includes the running block."""
        cell = HostTime(0.1)

        with cell.counting():
            before = host_seconds_left()
            burn(0.2)
            assert before > 0
            assert host_seconds_left() == 0
            with pytest.raises(TimeoutError, match=r"0\.1 s \(Limits.host_seconds\)"):
                cell.check()

    def test_another_process_adds_its_time(self):
        """A search runs in another process; its time is the cell's."""
        cell = HostTime(10)

        with cell.counting():
            add_host_seconds(4)
        add_host_seconds(4)  # no cell

        assert 5.5 < cell.left <= 6

    def test_without_a_cell_nothing_is_counted(self):
        """Functions of a library can be counted wherever they run."""
        with counted(), uncounted():
            assert host_seconds_left() == float("inf")

    def test_an_error_leaves_the_clock_as_it_was(self):
        """A block that raises is closed like any other."""
        cell = HostTime(100)

        with cell.counting():
            with pytest.raises(ValueError, match="inner"), uncounted():
                raise ValueError("inner")
            burn(0.1)

        assert cell.left <= 99.9
        assert host_seconds_left() == float("inf")


def test_a_coroutine_tool_is_the_users_own(opened):
    """What a coroutine does on the event loop is not the cell's time."""

    async def slow() -> str:
        await asyncio.sleep(0)
        return burn(2 * MOST)

    session = opened(tools={"slow": slow}, limits=Limits(host_seconds=MOST))

    assert output(session, "print(slow(), await slow.aio(), slow())") == "done done done"
