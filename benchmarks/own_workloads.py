"""Workloads for our sandbox only: the peer has no such features.

Measurements as in `workloads.py`; the contender is always ours.
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
from benchmarks.workloads import TOOL_CALLS, TOOL_CELLS, TRIVIAL, expect, text_of

if TYPE_CHECKING:
    from sandbox_runtime import Session

# The searched file: a gigabyte of lines of 100 characters, and one line to find at the end.
LINE = f"{'the quick brown fox jumps over the lazy dog':<99}\n"
LINES = 10_000_000
NEEDLE = "here is the Needle\n"
SAVED_MEGABYTES = 10
READ_BACK = "print(len(text), kept)"
# Echoes its input until the input ends.
ECHO = "import os\nwhile data := os.read(0, 1): os.write(1, data)"
EXPECTED = f"{SAVED_MEGABYTES * 1_000_000} kept"


def pipe_trip(_ours: Contender) -> list[float]:
    """Sends one byte to another Python process and back, through two pipes: the round trip of a host call."""
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
    """Assigns a gigabyte of text, and reads it once."""
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
    """Returns a measurement of a cell that searches `text`, a file of a gigabyte that the session has not read before."""

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
                printed = repl.run(f"print({code})")
                seconds = time.perf_counter() - started
        expect(answer, printed)
        return [seconds]

    return measure


def with_packages(_ours: Contender) -> list[float]:
    """Opens a session with a package that is already downloaded, and imports it."""
    from sandbox_runtime import open_session, resolve_packages

    packages = resolve_packages(["networkx"])
    open_session(packages=packages).close()  # builds the package image, once
    started = time.perf_counter()
    with open_session(packages=packages) as session:
        answer = OurRepl(session).run("import networkx; print(networkx.path_graph(3))")
        seconds = time.perf_counter() - started
    expect("Graph with 3 nodes and 2 edges", answer)
    return [seconds]


def checkpoint(_ours: Contender) -> list[float]:
    """Saves a session with some variables."""
    with _session() as session:
        started = time.perf_counter()
        session.checkpoint()
        return [time.perf_counter() - started]


def restore(_ours: Contender) -> list[float]:
    """Opens a session from a saved state, and runs a first cell."""
    from sandbox_runtime import open_session

    with _session() as session:
        state = session.checkpoint()
    started = time.perf_counter()
    with open_session(restore=state) as session:
        answer = OurRepl(session).run(READ_BACK)
        seconds = time.perf_counter() - started
    expect(EXPECTED, answer)
    return [seconds]


def heal(_ours: Contender) -> list[float]:
    """Kills the process of a session; measures the next cell, which restores the variables."""
    with _session() as session:
        os.kill(session.pid, signal.SIGKILL)
        started = time.perf_counter()
        answer = OurRepl(session).run(READ_BACK)
        seconds = time.perf_counter() - started
    expect(EXPECTED, answer)
    return [seconds]


@contextmanager
def _session() -> Iterator[Session]:
    """Opens a session with 10 MB of variables, from the host and from a cell."""
    from sandbox_runtime import open_session

    with open_session() as session:
        session.assign("text", text_of(SAVED_MEGABYTES))
        expect("", OurRepl(session).run("kept = 'kept'"))
        yield session
