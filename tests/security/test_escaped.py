"""The layers below an escaped interpreter: JavaScript that holds the worker's real globals.

Behind it are a worker without permissions, a process without rights, the system's wall, and a host that
believes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from sandbox_runtime import Limits, Session

from .builds import EscapedEngine
from .escapes import PAIRS, SINGLE, Escape
from .judge import judge
from .ours import Ours
from .program import program
from .surroundings import FIELDS, KEPT, Surroundings

LIMITS = Limits(cell_seconds=2, grace_seconds=0.5, memory_bytes=256 * 1024 * 1024)

# For escapes that compute for long before their attempt.
UNHURRIED = dataclasses.replace(LIMITS, cell_seconds=60)

ESCAPES = [
    pytest.param(escape, id=f"{group}: {escape.name}")
    for group, escapes in SINGLE.items()
    for escape in escapes
]


class Shared:
    """One session for programs that leave it sound, since this build takes seconds to start."""

    def __init__(self, engine: EscapedEngine, around: Surroundings) -> None:
        self._engine = engine
        self._around = around
        self._session: Session | None = None

    def open(self, limits: Limits) -> Session:
        """Opens a session with the tools and the variable, with a clean state for tools."""
        tools = self._around.tools()
        calls = self._around.calls
        session = Session(
            self._engine,
            limits,
            {**tools, "launch": lambda *args: calls.append(("launch", args))},
            FIELDS,
        )
        session.register(tools, FIELDS)
        session.assign("kept", KEPT)
        return session

    def get(self, limits: Limits = LIMITS) -> Session:
        """Returns the session, reopened with these limits if the previous one was closed."""
        if self._session is None:
            self._session = self.open(limits)
        return self._session

    def close(self) -> None:
        """Closes the session."""
        if self._session is not None:
            self._session.close()
        self._session = None


@pytest.fixture(scope="module")
def shared(escaped_engine, around) -> Iterator[Shared]:
    """A shared session with the wall, like usual sessions."""
    shared = Shared(escaped_engine, around)
    yield shared
    shared.close()


def test_it_is_escaped(shared):
    """The build is really escaped: JavaScript has everything that Deno offers to a worker."""
    result = shared.get().run_cell(
        "import js\nprint(js.eval('[1 + 1, typeof Deno.readTextFile, typeof postMessage].join()'))"
    )

    assert "2,function,function" in result.output


def hold(escape: Escape, shared: Shared, around: Surroundings) -> None:
    """Runs an escape. A session that it may have damaged or filled is not used again."""
    if escape.alone:
        shared.close()
    session = shared.get(UNHURRIED if escape.heavy else LIMITS)
    before = session.restarts
    cells = program(escape.name, escape.cell, "print(1)", destroys=escape.ends)
    try:
        report = judge(cells, Ours(session), around)
    except BaseException:
        shared.close()
        raise
    if escape.ends or escape.alone or report.verdict != "held" or session.restarts > before:
        shared.close()
    assert report.verdict == "held", report.reasons
    assert escape.ends or session.restarts == before, "the session was lost"


@pytest.mark.sampled(9)
@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_of_the_host_is_reached(escape, shared, around):
    """An escape reaches no file, connection or process, no undeclared tool, and forges no submission."""
    hold(escape, shared, around)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", PAIRS)
def test_nothing_is_kept_for_the_next_session(name, shared, around):
    """Data that one session stores is not visible to the next."""
    for what, source in zip(("plant", "look"), PAIRS[name], strict=True):
        shared.close()
        hold(Escape(f"{what}: {name}", source), shared, around)
    shared.close()
