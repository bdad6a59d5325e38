"""Each program of the catalogue, in a session of its own: it gets nothing, and the session is sound."""

from __future__ import annotations

import pytest

from sandbox_runtime import Directory, Limits, Pool

from .catalogue import BY_CLASS
from .judge import judge
from .ours import Ours
from .persistence import PAIRS
from .program import Program
from .surroundings import FIELDS, KEPT, Surroundings

LIMITS = Limits(cell_seconds=6, grace_seconds=1, memory_bytes=256 * 1024 * 1024, search_seconds=2)

PROGRAMS = [
    pytest.param(program, id=f"{group}: {program.name}")
    for group, programs in BY_CLASS.items()
    if group != "exhaustion"  # in test_limits.py
    for program in programs
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Directory:
    """A folder that was given to the session, beside one that was not."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "a.txt").write_text("a" * 5000 + "b\n")
    return Directory(folder)


def check(program: Program, pool: Pool, around: Surroundings, inputs: Directory) -> None:
    """Runs a program in a session of its own."""
    with pool.lend(tools=around.tools(), outputs=FIELDS) as session:
        session.assign({"kept": KEPT, "files": inputs})
        report = judge(program, Ours(session), around)
    assert report.verdict == "held", report.reasons
    assert program.destroys or report.losses == 0, "the session was lost"


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_holds(program, pool, around, inputs):
    """Nothing comes out, nobody is called, and the session goes on or heals."""
    check(program, pool, around, inputs)


@pytest.mark.parametrize("pair", PAIRS, ids=[pair.plant.name for pair in PAIRS])
def test_nothing_is_left_for_the_next_session(pair, pool, around, inputs):
    """What a program plants, a fresh session does not find."""
    check(pair.plant, pool, around, inputs)
    check(pair.look, pool, around, inputs)


def test_there_are_programs_enough():
    """Each has a name of its own within its class, and they are many."""
    names = [(group, program.name) for group, programs in BY_CLASS.items() for program in programs]
    assert len(set(names)) == len(names) >= 150
