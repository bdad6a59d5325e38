"""What only our sandbox is asked: the peer has nothing of the kind.

Measurements as in `questions.py`; the contender is ours, whatever it is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import Contender, OurRepl
from benchmarks.questions import TOOL_CALLS, TOOL_CELLS, TRIVIAL, expect, text_of

if TYPE_CHECKING:
    from sandbox_runtime import Session

# What is searched: lines of 100 characters, a gigabyte of them, and one that is looked for at the end.
LINE = f"{'the quick brown fox jumps over the lazy dog':<99}\n"
LINES = 10_000_000
NEEDLE = "here is the Needle\n"
SAVED_MEGABYTES = 10
LOOK = "print(len(text), kept)"
# Gives back what comes, until nothing does.
ECHO = "import os\nwhile data := os.read(0, 1): os.write(1, data)"
SEEN = f"{SAVED_MEGABYTES * 1_000_000} kept"


def pipe_trip(_ours: Contender) -> list[float]:
    """One byte to another Python and back, through two pipes: what a call of the host pays for the trip."""
    samples = []
    command = [sys.executable, "-c", ECHO]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        for _ in range(TOOL_CELLS):
            started = time.perf_counter()
            for _ in range(TOOL_CALLS):
                echo.stdin.write(b"x")
                expect("x", echo.stdout.read(1).decode())
            samples.append((time.perf_counter() - started) / TOOL_CALLS)
        echo.stdin.close()
    return samples


def assign_1gb(_ours: Contender) -> list[float]:
    """Hand over a gigabyte of text, and look at it once."""
    from sandbox_runtime import Limits, open_session

    text = text_of(1000)
    with open_session(Limits(memory_bytes=2 * 1024**3)) as session:
        repl = OurRepl(session)
        expect("2", repl.run(TRIVIAL))
        started = time.perf_counter()
        session.assign("text", text)
        answer = repl.run("print(len(text), text[-8:].encode())")
        seconds = time.perf_counter() - started
    expect(f"{len(text)} {text[-8:].encode()!r}", answer)
    return [seconds]


def in_file(code: str, answer: str) -> Callable[[Contender], list[float]]:
    """A cell that searches `text`, a file of a gigabyte that the session has not looked at before."""

    def measure(_ours: Contender) -> list[float]:
        from sandbox_runtime import Limits, TextFile, open_session

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "lines.txt")
            with path.open("w") as file:
                for _ in range(LINES // 100_000):
                    file.write(LINE * 100_000)
                file.write(NEEDLE)
            with open_session(Limits(search_seconds=300)) as session:
                repl = OurRepl(session)
                session.assign("text", TextFile(path))
                started = time.perf_counter()
                said = repl.run(f"print({code})")
                seconds = time.perf_counter() - started
        expect(answer, said)
        return [seconds]

    return measure


def with_packages(_ours: Contender) -> list[float]:
    """Open a session that has a package, and import it. Fetching it was done before."""
    from sandbox_runtime import open_session, resolve_packages

    packages = resolve_packages(["networkx"])
    open_session(packages=packages).close()  # makes the image, once
    started = time.perf_counter()
    with open_session(packages=packages) as session:
        answer = OurRepl(session).run("import networkx; print(networkx.path_graph(3))")
        seconds = time.perf_counter() - started
    expect("Graph with 3 nodes and 2 edges", answer)
    return [seconds]


def checkpoint(_ours: Contender) -> list[float]:
    """Save a session with some variables."""
    with _session() as session:
        started = time.perf_counter()
        session.checkpoint()
        return [time.perf_counter() - started]


def restore(_ours: Contender) -> list[float]:
    """Open a session from a saved state, and run a first cell."""
    from sandbox_runtime import open_session

    with _session() as session:
        state = session.checkpoint()
    started = time.perf_counter()
    with open_session(restore=state) as session:
        answer = OurRepl(session).run(LOOK)
        seconds = time.perf_counter() - started
    expect(SEEN, answer)
    return [seconds]


def heal(_ours: Contender) -> list[float]:
    """Kill the process of a session; the next cell's time, until it has the old variables' values."""
    with _session() as session:
        os.kill(session.pid, signal.SIGKILL)
        started = time.perf_counter()
        answer = OurRepl(session).run(LOOK)
        seconds = time.perf_counter() - started
    expect(SEEN, answer)
    return [seconds]


@contextmanager
def _session() -> Iterator[Session]:
    """A session with 10 MB of variables, from the host and of its own."""
    from sandbox_runtime import open_session

    with open_session() as session:
        session.assign("text", text_of(SAVED_MEGABYTES))
        expect("", OurRepl(session).run("kept = 'kept'"))
        yield session
