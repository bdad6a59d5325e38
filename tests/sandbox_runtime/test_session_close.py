"""The end of sessions: closed, or orphaned by a host that has ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from session_cells import (
    UNINTERRUPTIBLE,
    output,
    when,
)

from sandbox_runtime import (
    SessionClosedError,
    open_session,
)
from sandbox_runtime.engine import assets


class TestClose:
    """Closing ends everything, is idempotent, and never hangs."""

    def test_a_context_manager(self):
        """Leaving the `with` block closes the session, which is the usual way."""
        with open_session() as session:
            assert not session.closed

        assert session.closed

    def test_an_error_in_the_block(self):
        """An exception in the block closes the session and propagates."""
        with pytest.raises(LookupError), open_session() as session:
            raise LookupError

        assert session.closed

    def test_twice_and_using_it_afterwards(self, opened):
        """Closing a session twice does nothing the second time; using it raises an error that names the remedy."""
        session = opened()

        session.close()
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

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        "code", ["while True: pass", "import time; time.sleep(1e6)", UNINTERRUPTIBLE]
    )
    def test_from_another_thread_while_a_cell_runs(self, opened, started, code):
        """The caller of the running cell gets an error that the session was closed."""
        session = opened(tools={"started": started})
        thread = when(started.event, session.close)

        with pytest.raises(SessionClosedError, match="closed while a cell ran"):
            session.run_cell(f"started()\n{code}")

        thread.join()

    def test_from_a_tool(self, opened):
        """A tool can close the session that calls it; `run_cell` then raises SessionClosedError."""
        session = opened(tools={"close": lambda: session.close()})

        with pytest.raises(SessionClosedError):
            session.run_cell("close()")

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_nothing_is_left(self, deno_children):
        """No process, thread or open file remains, on any path.

        What earlier tests left may be closed meanwhile, so only what is new counts.
        """

        def open_and_use():
            with open_session(
                tools={"die": lambda: os.kill(session.pid, signal.SIGKILL)}
            ) as session:
                session.assign("x", "x" * 1_000_000)
                session.run_cell("print(x)")
                session.run_cell("die()")

        def resources():
            found = set(threading.enumerate()) | deno_children()
            for file in list(Path("/proc/self/fd").iterdir()):
                with contextlib.suppress(FileNotFoundError):  # that of the listing
                    found.add((file.name, file.readlink()))
            return found

        open_and_use()
        before = resources()
        open_and_use()

        assert resources() - before == set()

    def test_many_at_once(self, deno_children):
        """Sessions are independent, and can be opened from any thread."""
        before = deno_children()
        printed = {}
        barrier = threading.Barrier(3)

        def work(number):
            with open_session(tools={"own": lambda: number}) as session:
                barrier.wait(60)
                session.assign("x", number)
                printed[number] = output(session, "x, own()")

        threads = [threading.Thread(target=work, args=[number]) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert printed == {number: f"({number}, {number})\n" for number in range(3)}
        assert deno_children() == before


PROJECT = Path(assets.__file__).parents[2]


# Nothing of the host's is left after this; the promise is for a killed host.
GONE_SECONDS = 2.0


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
    """If the host ends, its sandboxes end, and nothing of them remains on the disk."""

    @pytest.fixture
    def host(self, tmp_path):
        """Runs a host; returns its process and the file descriptors of its sandbox and forked child."""
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

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("spin", ["", SPIN + "ready.wait()\n"], ids=["idle", "in a cell"])
    def test_killed(self, host, spin):
        """The sandbox of a killed host ends within two seconds, also while a cell runs."""
        process, [sandbox] = host(HOST_PROGRAM + spin + TELL + PAUSE, 1)

        process.kill()

        assert self.is_gone(sandbox)

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("spin", ["", SPIN + "ready.wait()\n"], ids=["idle", "in a cell"])
    def test_killed_while_a_forked_child_holds_the_pipes(self, host, spin):
        """Its input does not end then; the sandbox checks that its parent is alive."""
        program = HOST_PROGRAM + FORK + spin + TELL + "print(child, flush=True)\n" + PAUSE
        process, [sandbox, child] = host(program, 2)
        try:
            process.kill()

            assert self.is_gone(sandbox)
        finally:
            signal.pidfd_send_signal(child, signal.SIGKILL)

    def test_ended_without_closing(self, host):
        """A script that does not close its session leaves no process, and exits at once."""
        process, [sandbox] = host(HOST_PROGRAM + TELL, 1)

        assert process.wait(60) == 0
        assert self.is_gone(sandbox)

    def test_ended_by_an_exception(self, host):
        """A script that fails leaves no process either."""
        process, [sandbox] = host(HOST_PROGRAM + TELL + "sys.exit(3)", 1)

        assert process.wait(60) == 3
        assert self.is_gone(sandbox)
