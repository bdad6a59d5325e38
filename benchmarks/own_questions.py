"""What only our sandbox is asked: the peer has nothing of the kind.

Measurements as in `questions.py`; the contender is ours, whatever it is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.contenders import Contender, OurRepl
from benchmarks.questions import TRIVIAL, expect, text_of

if TYPE_CHECKING:
    from sandbox_runtime import Session

SAVED_MEGABYTES = 10
LOOK = "print(len(text), kept)"
SEEN = f"{SAVED_MEGABYTES * 1_000_000} kept"


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
