"""No program of the catalogue achieves anything, and each leaves its session sound.

Programs share a session for as long as it is sound; a session of its own for each is for the night.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_runtime import Directory, Limits, Session, Submitted, open_session

from .aims import aims_of
from .catalogue import BY_CLASS, counts
from .escapes import PAIRS as ESCAPED_PAIRS
from .escapes import SINGLE
from .judge import Report, judge
from .marks import marks_in
from .ours import Ours
from .persistence import PAIRS
from .program import Program
from .sharing import Shared
from .surroundings import FIELDS, KEPT

LIMITS = Limits(cell_seconds=6, grace_seconds=1, memory_bytes=256 * 1024 * 1024, search_seconds=2)

# Programs that take seconds of processor time; others try the same with less.
HEAVY = frozenset(
    {
        "a finalizer that changes the harness again and again",
        "a number that is huge",
        "an argument that is huge",
        "a pattern that never ends, on the host",
        "a pool whose workers wait for the next cell's work",
        "a trace that lies about lines",
        "garbage with a trace function",
        "garbage that is collected later, and takes its rights itself",
        "nested 100,000 deep in dicts and tuples",
        "weak references to garbage that take their rights themselves",
    }
)


def when(program: Program) -> tuple[pytest.MarkDecorator, ...]:
    """Returns the marks that say when a program runs: a new process after each takes half a second."""
    if program.name in HEAVY:
        return (pytest.mark.nightly,)
    return (pytest.mark.sampled(10),) if program.destroys else ()


PROGRAMS = [
    pytest.param(program, id=f"{group}: {program.name}", marks=when(program))
    for group, programs in BY_CLASS.items()
    if group != "exhaustion"  # in test_limits.py
    for program in programs
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Directory:
    """A folder that is an input of the session, beside one that is not."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "a.txt").write_text("a" * 5000 + "b\n")
    return Directory(folder)


@pytest.fixture(scope="module")
def shared(around, inputs) -> Iterator[Shared]:
    """A session for programs that leave it sound."""

    def assign(session: Session) -> None:
        session.assign({"kept": KEPT, "files": inputs})

    shared = Shared(lambda: open_session(LIMITS, around.tools(), FIELDS), assign)
    yield shared
    shared.close()


def check(report: Report, program: Program) -> None:
    """Fails unless the program was contained, and harmed its interpreter at most as specified."""
    assert report.verdict == "held", report.reasons
    assert program.destroys or report.losses == 0, "the session was lost"


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_holds(program, shared, around):
    """No secret leaks, no tool is reached, and the session continues or recovers."""
    check(shared.judge(program, around), program)


@pytest.mark.nightly
@pytest.mark.parametrize("program", PROGRAMS)
def test_it_holds_in_a_session_of_its_own(program, pool, around, inputs):
    """The outcome holds in a fresh session, without the effects of an earlier program."""
    with pool.lend(tools=around.tools(), outputs=FIELDS) as session:
        session.assign({"kept": KEPT, "files": inputs})
        check(judge(program, Ours(session), around), program)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("pair", PAIRS, ids=[pair.plant.name for pair in PAIRS])
def test_nothing_is_left_for_the_next_session(pair, shared, around):
    """A fresh session finds nothing that an earlier program planted."""
    check(shared.judge(pair.plant, around), pair.plant)
    shared.close()
    check(shared.judge(pair.look, around), pair.look)


def test_there_are_programs_enough():
    """Names are unique within each class, and the catalogue is large."""
    names = [(group, program.name) for group, programs in BY_CLASS.items() for program in programs]
    assert len(set(names)) == len(names) >= 150


def every_program() -> list[Program]:
    """Yields the programs of the catalogue, and those of pairs."""
    return [program for programs in BY_CLASS.values() for program in programs] + [
        program for pair in PAIRS for program in (pair.plant, pair.look)
    ]


def proves_its_attempt(program: Program) -> bool:
    """Returns whether a program has `reached()`, or a reason for its absence and exactly one valid ending."""
    if not program.silent:
        return bool(marks_in(program))
    one_end = program.shows or program.ends == ("completed",)
    return not marks_in(program) and len(program.ends) == 1 and bool(one_end)


def test_every_program_proves_that_it_makes_its_attempt():
    """A program that misses its attempt would pass in any sandbox."""
    assert [one.name for one in every_program() if not proves_its_attempt(one)] == []


# Names that programs add to the harness on purpose.
ADDED = {"sandbox_runtime.guest.entry.PyodideDriver._running"}


def test_every_name_of_the_harness_that_a_program_reaches_for_exists(around):
    """A name that was renamed or removed would make an attempt empty, though it runs to its end."""
    aims = {aim: one.name for one in every_program() for aim in aims_of(one)}
    paths = sorted((aim.module, *aim.path) for aim in aims)
    with open_session(LIMITS, around.tools(), FIELDS) as session:
        session.assign({"paths": paths})
        session.run_cell(
            "import importlib\nmissing, nothing = [], object()\n"
            "for module, *path in paths:\n    thing = importlib.import_module(module)\n"
            "    for name in path:\n"
            "        thing = getattr(thing, name, nothing)\n"
            "    if thing is nothing:\n        missing.append('.'.join((module, *path)))"
        )
        result = session.run_cell("SUBMIT('\\n'.join(missing), len(paths))")

    assert isinstance(result, Submitted)
    missing = set(str(result.outputs["answer"]).split())
    assert missing - ADDED == set()
    assert ADDED - missing == set(), "these exist"
    assert result.outputs["count"] > 80


def test_every_escape_proves_that_it_makes_its_attempt():
    """The JavaScript of every escape calls `reached()`."""
    sources = [escape.source for escapes in SINGLE.values() for escape in escapes]
    sources += [source for pair in ESCAPED_PAIRS.values() for source in pair]

    assert [source for source in sources if "reached()" not in source] == []


def test_the_documents_count_right():
    """The numbers of programs and escapes in the documents match the catalogue."""
    security = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    stated = re.search(
        r"has ([\w ]+) hostile programs .*?, and (\d+) for a build", security, re.DOTALL
    )
    numbers = counts()

    assert stated, "SECURITY.md states no numbers"
    assert stated[1] == str(numbers["all programs"])
    assert stated[2] == str(numbers["escapes"])
