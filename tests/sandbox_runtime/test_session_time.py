"""Cells that run too long, and cells that another thread interrupts."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from session_cells import (
    HASTY,
    UNINTERRUPTIBLE,
    echo,
    everything_in,
    failure,
    output,
    when,
)

from sandbox_runtime import (
    Failed,
    Limits,
)


class TestTime:
    """A cell that runs too long is interrupted; its variables stay."""

    @pytest.mark.sampled(6)
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
        """Endless loops, sleeps, waits and output end in a distinct exception."""
        hasty.run_cell("kept = 1")

        result = failure(hasty, code)

        assert result.error_type == "CellTimeoutError"
        assert result.message == (
            "the cell ran for 0.3 s, its limit (waiting for tools does not count); its variables are kept. Do "
            "less at once"
        )
        assert output(hasty, "kept") == "1\n"

    def test_where_it_was(self, hasty):
        """The traceback shows the line that ran."""
        result = failure(hasty, "import time\ndef wait():\n    time.sleep(1e6)\nwait()")

        assert everything_in(result) == (
            "Traceback (most recent call last):\n"
            '  File "<cell>", line 4, in <module>\n'
            "    wait()\n"
            "    ~~~~^^\n"
            '  File "<cell>", line 3, in wait\n'
            "    time.sleep(1e6)\n"
            "    ~~~~~~~~~~^^^^^\n"
            "CellTimeoutError: the cell ran for 0.3 s, its limit (waiting for tools does not count); its variables "
            "are kept. Do less at once\n"
        )

    def test_output_until_then(self, hasty):
        """The output until the time limit is kept."""
        assert failure(hasty, "print('so far')\nwhile True: pass").output == "so far\n"

    def test_the_clock_stands_still_while_the_host_works(self, opened):
        """The time of host calls does not count."""
        waiting = threading.Event()
        session = opened(limits=HASTY, tools={"slow": lambda: waiting.wait(0.7)})

        assert output(session, "slow()") == "False\n"

    def test_calls_do_not_reset_the_clock(self, opened):
        """The cell's own time between calls adds up."""
        session = opened(limits=HASTY, tools={"echo": echo})

        assert failure(session, "while True: echo(1)").error_type == "CellTimeoutError"

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("code", [UNINTERRUPTIBLE, "sum(range(10**18))"])
    def test_a_cell_that_cannot_be_interrupted(self, opened, code):
        """Its process is killed; the session restarts with the input variables, and says so."""
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
        """The output received before the kill is kept."""
        limits = Limits(cell_seconds=0.3, grace_seconds=0.3, output_chars=20)

        result = opened(limits=limits).run_cell("print('heard' * 2)\n" + UNINTERRUPTIBLE)

        assert isinstance(result, Failed)
        assert result.output == "heardheard"

    @pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped")
    def test_a_machine_that_does_not_run_it(self, opened):
        """A cell is not charged for time in which its process gets no processor."""
        stopped = threading.Event()

        def starve() -> None:
            time.sleep(0.02)
            os.kill(session.pid, signal.SIGSTOP)
            stopped.set()
            time.sleep(2)
            os.kill(session.pid, signal.SIGCONT)

        def begin() -> None:
            threading.Thread(target=starve).start()

        session = opened(limits=Limits(cell_seconds=1.5, grace_seconds=0.1), tools={"begin": begin})

        shown = output(session, "begin()\nprint(sum(i % 7 for i in range(1_500_000)))")

        assert shown == "4499995\n"
        assert stopped.is_set()

    def test_limits_of_centuries(self, opened):
        """A very large limit works like no limit."""
        assert output(opened(limits=Limits(cell_seconds=1e12, grace_seconds=1e12)), "1") == "1\n"


INTERRUPTED = ("KeyboardInterrupt", "the cell was interrupted; its variables are kept")


class TestInterrupt:
    """Another thread can interrupt a cell; its variables stay."""

    @pytest.mark.parametrize(
        "code",
        [
            "while True: pass",
            "import time; time.sleep(1e6)",
            "import asyncio\nawait asyncio.sleep(1e6)",
        ],
    )
    def test_a_running_cell(self, reregister, started, code):
        """An interrupted cell sees KeyboardInterrupt."""
        session = reregister(tools={"started": started})
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
    def test_none_is_lost(self, reregister, started, code):
        """No interrupt is lost, whether it comes in Python, in the event loop, or in between."""
        session = reregister(tools={"started": started})
        for _ in range(20):
            started.event.clear()
            thread = when(started.event, session.interrupt)
            result = failure(session, f"import asyncio\nstarted()\n{code}")
            thread.join()

            assert (result.error_type, result.message) == INTERRUPTED

    def test_while_a_tool_works(self, reregister):
        """The cell sees the interrupt when the tool returns."""
        session = reregister(tools={"tool": lambda: session.interrupt()})

        assert failure(session, "tool()\nwhile True: pass").error_type == "KeyboardInterrupt"

    def test_when_no_cell_runs(self, reregister):
        """An interrupt without a running cell has no effect, not even on the next cell."""
        session = reregister()

        session.interrupt()

        assert output(session, "sum(range(100_000))") == "4999950000\n"

    def test_a_closed_session(self, opened):
        """Interrupting a closed session does nothing."""
        session = opened()
        session.close()

        session.interrupt()
