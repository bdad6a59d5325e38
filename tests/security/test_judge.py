"""The judge itself: it fails a program that does not reach its attempt, and one that exceeds a limit."""

from __future__ import annotations

import dataclasses

import pytest

from sandbox_runtime import Limits, open_session

from .judge import Bounds, judge
from .ours import Ours
from .program import program
from .surroundings import FIELDS, KEPT

LIMITS = Limits(cell_seconds=4, grace_seconds=1, memory_bytes=256 * 1024 * 1024)


@pytest.fixture
def judged(around):
    """Judges a program in a separate session."""

    def run(*cells, **said):
        with open_session(LIMITS, around.tools(), FIELDS) as session:
            session.assign("kept", KEPT)
            return judge(program("a program", *cells, **said), Ours(session), around)

    return run


def test_an_attempt_that_is_made_is_seen(judged):
    """An attempt is noticed in blocks, functions, several cells, and after names were overwritten."""
    report = judged(
        "print = str = None\nfor _ in range(2):\n    reached()",
        "async def attempt():\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        reached()\nawait attempt()",
    )

    assert report.verdict == "held", report.reasons


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "cell",
    [
        "import no_such_module\nreached()",
        "missing_name\nreached()",
        "None.attribute\nreached()",
        "if False:\n    reached()",
        "raise ValueError(\n'no')\nreached()",
        "syntax error\nreached()",
        "try:\n    no_such_name\n    reached()\nexcept NameError:\n    pass",
    ],
)
def test_a_program_that_fails_before_its_attempt_has_missed_it(judged, cell):
    """A program that fails before its attempt counts as missed, even if the traceback shows its lines."""
    report = judged(cell)

    assert report.verdict == "missed"
    assert report.unreached == 1


def test_every_attempt_counts(judged):
    """One missed attempt of two suffices for the verdict."""
    report = judged("reached()\n1 / 0\nreached()")

    assert report.verdict == "missed"
    assert "<reached 1>" in report.reasons[0]


def test_a_traceback_that_shows_the_line_does_not_count(judged):
    """The mark is not in the text of the statement that prints it."""
    report = judged("import sys\nsys.stdout = None\nreached()")

    assert report.verdict == "missed"
    assert "sys" in report.reasons[0]


@pytest.mark.nightly  # the programs that end their process show it each night
def test_the_mark_comes_out_although_the_process_dies(judged):
    """The mark is sent to the host before the attempt."""
    report = judged("import ctypes\nreached()\nctypes.string_at(2**31, 10)", destroys=True)

    assert report.verdict == "held", report.reasons
    assert report.losses == 1


def test_a_breach_is_graver_than_a_missed_attempt(judged):
    """A breach outranks a missed attempt, and the reasons state both."""
    report = judged("print('ESC' + 'APED')\n1 / 0\nreached()")

    assert report.verdict == "breach"
    assert len(report.reasons) == 2


class Bounded(Ours):
    """A sandbox that promises less than it enforces."""

    limit = Bounds(output_chars=10_000, host_cpu_seconds=60, host_memory_bytes=2**40)

    @property
    def bounds(self):
        """The bounds that the test sets."""
        return self.limit


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("promise", "cell"),
    [
        ({"output_chars": 1000}, "reached()\nprint('x' * 9000)"),
        ({"output_chars": 1000}, "reached()\nraise ValueError('x' * 9000)"),
        ({"host_cpu_seconds": 0.0}, "reached()\necho(1)"),
        ({"host_memory_bytes": -1}, "reached()"),
    ],
)
def test_more_than_is_promised_is_a_breach(around, promise, cell):
    """Exceeding a promised bound is a breach, whatever else the program attempted."""
    with open_session(LIMITS, around.tools(), FIELDS) as session:
        session.assign("kept", KEPT)
        subject = Bounded(session)
        subject.limit = dataclasses.replace(Bounded.limit, **promise)
        report = judge(program("too much", cell), subject, around)

    assert report.verdict == "breach"
    assert ", not " in report.reasons[0]


def test_what_is_to_be_shown_is_not_shown_by_a_traceback(judged):
    """A traceback quotes the cell's own lines, which do not count as output."""
    report = judged(
        "reached()\nprint('quoted' if missing else '')", ends=("failed",), shows="quoted"
    )

    assert report.verdict == "lost"
