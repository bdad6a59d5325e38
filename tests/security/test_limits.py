"""Programs that use up what there is, under tight limits: what they get is bounded, and the session goes on."""

from __future__ import annotations

import sys

import pytest

from sandbox_runtime import Limits

from .exhaustion import FLOODS, MEMORY, OUTPUT, STACK, TIME
from .judge import judge
from .ours import Ours
from .surroundings import FIELDS, KEPT
from .usage import Usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LIMITS = Limits(cell_seconds=1, grace_seconds=0.5, memory_bytes=256 * 1024 * 1024)

# A hostile cell may take its own time and that in which it is told to stop, and so much in which it ends.
# Threads of V8 that compile and clear up work beside it.
SLACK_SECONDS = 1.0

# What a process takes beside the interpreter's memory: V8, code, the heap of JavaScript in which output,
# files and buffers are. `OVERHEAD_BYTES` of `exchange.py` is more: stacks count there that nobody uses.
OVERHEAD_BYTES = 1536 * 1024 * 1024

PROGRAMS = [
    pytest.param(program, id=f"{group}: {program.name}")
    for group, programs in (
        ("time", TIME),
        ("memory", MEMORY),
        ("stack", STACK),
        ("output", OUTPUT),
        ("floods", FLOODS),
    )
    for program in programs
]


class Watched(Ours):
    """Notes what the first cell used, which is the program."""

    usage: Usage | None = None

    def run(self, code):
        """Runs a cell."""
        if self.usage is not None:
            return super().run(code)
        with Usage(self.session.pid) as self.usage:
            return super().run(code)


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_bounded(program, pool, around):
    """Neither time nor memory beyond the limits, and the session goes on or heals."""
    with pool.lend(tools=around.tools(), outputs=FIELDS) as session:
        session.assign("kept", KEPT)
        subject = Watched(session)
        report = judge(program, subject, around)

    assert report.verdict == "held", report.reasons
    assert program.destroys or report.losses == 0, "the session was lost"
    used = subject.usage
    assert used.cpu_seconds <= LIMITS.cell_seconds + LIMITS.grace_seconds + SLACK_SECONDS
    assert used.peak_bytes <= LIMITS.memory_bytes + OVERHEAD_BYTES
