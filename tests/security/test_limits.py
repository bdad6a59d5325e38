"""Programs that exhaust resources under tight limits: their use is bounded, and the session continues."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import pytest

from sandbox_runtime import Limits, Session, open_session

from .exhaustion import FLOODS, MEMORY, OUTPUT, STACK, TIME
from .judge import Ending
from .ours import Ours
from .program import Program
from .sharing import Shared
from .surroundings import FIELDS, KEPT, Surroundings
from .usage import Usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# More than the 0.35 s for which a program that may destroy its interpreter waits until its mark is out.
LIMITS = Limits(cell_seconds=0.8, grace_seconds=0.3, memory_bytes=256 * 1024 * 1024)

# For programs that exhaust something other than time: they must reach their own limit first.
UNHURRIED = dataclasses.replace(LIMITS, cell_seconds=20)

# A hostile cell may take its own time, the grace period, and this much until it ends.
# V8's threads for compilation and garbage collection run concurrently.
SLACK_SECONDS = 1.0

# Programs that reach the limit of memory, and then that of time: cancelling a task takes memory.
MADE_TO_WAIT = frozenset({"very many tasks"})

# Programs that reach only the limit of time.
ENDLESS = frozenset({"a flood of output that never ends"})

# The memory of a process beside the interpreter's: V8, code, the heap of JavaScript in which output,
# files and buffers are. `OVERHEAD_BYTES` of `channel.py` is more: stacks count there that nobody uses.
OVERHEAD_BYTES = 1536 * 1024 * 1024


def name_of(program: Program) -> str:
    """Returns the name of a test's program, as its id."""
    return program.name


class Watched(Ours):
    """Records the ending and the resource use of the first cell, which is the program."""

    usage: Usage | None = None
    ending: Ending | None = None

    def run(self, code):
        """Runs a cell, and measures the first one."""
        if self.usage is not None:
            return super().run(code)
        with Usage(self.session.pid) as self.usage:
            self.ending = super().run(code)
        return self.ending


def sharing(limits: Limits, around: Surroundings) -> Shared:
    """Sessions within the limits, for programs that leave them sound."""
    return Shared(
        lambda: open_session(limits, around.tools(), FIELDS),
        lambda session: session.assign("kept", KEPT),
    )


@pytest.fixture(scope="module")
def hurried(around) -> Iterator[Shared]:
    """Shared sessions with the short limits of `LIMITS`."""
    shared = sharing(LIMITS, around)
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def unhurried(around) -> Iterator[Shared]:
    """Shared sessions with the longer limits of `UNHURRIED`."""
    shared = sharing(UNHURRIED, around)
    yield shared
    shared.close()


def watch(program: Program, shared: Shared, around: Surroundings) -> Watched:
    """Runs a program, whose resource use must be within its session's limits."""
    subjects: list[Watched] = []

    def watched(session: Session) -> Watched:
        subjects.append(Watched(session))
        return subjects[-1]

    report = shared.judge(program, around, watched)

    assert report.verdict == "held", report.reasons
    assert program.destroys or report.losses == 0, "the session was lost"
    subject = subjects[-1]
    limits, used = subject.session.limits, subject.usage
    assert used.cpu_seconds <= limits.cell_seconds + limits.grace_seconds + SLACK_SECONDS
    assert used.peak_bytes <= limits.memory_bytes + OVERHEAD_BYTES
    return subject


@pytest.mark.sampled(4)
@pytest.mark.parametrize("program", TIME, ids=name_of)
def test_time_is_bounded(program, hurried, around):
    """A cell does not run beyond its time limit, and the session continues or recovers."""
    watch(program, hurried, around)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("program", MEMORY, ids=name_of)
def test_memory_is_bounded(program, unhurried, around):
    """A cell gets no more memory than the limit, and ends by that limit."""
    subject = watch(program, unhurried, around)

    if program.name not in MADE_TO_WAIT:
        assert subject.ending.error != "CellTimeoutError"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("program", STACK, ids=name_of)
def test_the_stack_is_bounded(program, unhurried, around):
    """Deep values harm only their own interpreter."""
    watch(program, unhurried, around)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("program", [*OUTPUT, *FLOODS], ids=name_of)
def test_the_output_is_bounded(program, hurried, unhurried, around):
    """Floods of text harm only their own interpreter."""
    watch(program, hurried if program.name in ENDLESS else unhurried, around)
