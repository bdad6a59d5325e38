"""Each layer alone, with the others switched off.

The operating system's is in `tests/sandbox_runtime/test_wall.py`, the protocol's in `test_protocol.py`, the
driver's in `test_bootstrap.py`, where CPython runs it, and the host's in `tests/fuzz`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox_runtime import Completed, Limits, Session
from sandbox_runtime.isolation.os_isolation import NO_WALL
from sandbox_runtime.open import ready_engine

from .builds import EscapedEngine, uncapped, variant
from .escapes import SINGLE, Escape
from .judge import judge
from .ours import Ours
from .program import program
from .surroundings import FIELDS, KEPT, Surroundings

LIMITS = Limits(cell_seconds=60, memory_bytes=256 * 1024 * 1024)

REACHING_OUT = [
    pytest.param(escape, id=f"{group}: {escape.name}")
    for group in ("files", "network", "processes", "rights")
    for escape in SINGLE[group]
    if not escape.ends
]


@pytest.fixture(scope="module", params=["process", "worker"])
def rights(request, escaped_engine, tmp_path_factory) -> EscapedEngine:
    """An engine with permissions at one of the two places only, without any wall."""
    return variant(
        escaped_engine,
        tmp_path_factory.mktemp(request.param),
        rights=request.param == "worker",  # then it is the worker that has none
        worker_rights=request.param == "process",  # then it is the process that has none
        wall=NO_WALL,
    )


class Sessions:
    """One session for many escapes, and a separate one for each that needs it."""

    def __init__(self, engine: EscapedEngine, around: Surroundings) -> None:
        self._engine = engine
        self._around = around
        self._session: Session | None = None

    def get(self) -> Session:
        """Returns the session, opened if there is none."""
        if self._session is None:
            self._session = Session(self._engine, LIMITS, self._around.tools(), FIELDS)
            self._session.assign({"kept": KEPT})
        return self._session

    def close(self) -> None:
        """Closes the session, if there is one."""
        if self._session is not None:
            self._session.close()
        self._session = None


@pytest.fixture(scope="module")
def sessions(rights, around) -> Iterator[Sessions]:
    """The sessions of a module, for one set of permissions."""
    sessions = Sessions(rights, around)
    yield sessions
    sessions.close()


# On each push a sixth of the escapes, each at one of the two places: with an odd number both places have some.
@pytest.mark.sampled(len(REACHING_OUT) // 6 | 1)
@pytest.mark.parametrize("escape", REACHING_OUT)
def test_rights_of_the_process_or_of_the_worker(escape, sessions, around):
    """Either denial suffices after an escape from the realm, without a wall."""
    if escape.alone:
        sessions.close()
    report = judge(program(escape.name, escape.cell, "print(1)"), Ours(sessions.get()), around)
    if escape.alone:
        sessions.close()

    assert report.verdict == "held", report.reasons


def test_such_a_build_has_what_it_says(escaped_engine, tmp_path, around):
    """With permissions at both layers the same programs read the secret, so the permissions are what holds."""
    engine = variant(escaped_engine, tmp_path, rights=True, worker_rights=True, wall=NO_WALL)
    with Session(engine, LIMITS) as session:
        read = Escape("read", around.fill("return Deno.readTextFileSync('@SECRET@')"))
        result = session.run_cell(read.cell)

    assert around.token in result.output


def test_v8_makes_no_code_of_texts(escaped_engine, tmp_path):
    """V8 refuses code from strings, although the whole realm is available."""
    engine = variant(escaped_engine, tmp_path, strings=False)
    with Session(engine, LIMITS) as session:
        result = session.run_cell(
            "import js\n"
            "for name in ('eval', 'Function'):\n"
            "    try:\n        print(getattr(js, name)('1'))\n"
            "    except Exception as error:\n        print(type(error).__name__, error)"
        )

    refused = "JsException EvalError: Code generation from strings disallowed for this context\n"
    assert result == Completed(2 * refused)


@pytest.mark.parametrize(("hook", "pages"), [(True, False), (False, True)])
def test_memory_is_capped_by_the_worker_or_by_v8(tmp_path, hook, pages):
    """Either cap raises a MemoryError in the cell, and the session continues."""
    engine = uncapped(ready_engine(), tmp_path, hook=hook, pages=pages)
    with Session(engine, LIMITS) as session:
        result = session.run_cell(
            "kept = []\ntry:\n    while True:\n        kept.append(bytearray(2 ** 24))\n"
            "except MemoryError:\n    print(len(kept) * 2 ** 24 < 256 * 2 ** 20)\n    kept.clear()"
        )

        assert result == Completed("True\n")
        assert session.run_cell("1 + 1") == Completed("2\n")
        assert session.restarts == 0


def test_the_realm_has_nothing_to_work_with(tmp_path):
    """The scrubbed realm exposes nothing useful, even with Python's access to JavaScript and code from strings."""
    with Session(ready_engine(), LIMITS) as session:
        result = session.run_cell(
            "from sandbox_runtime.guest import entry\n"
            "worker = entry._host._worker\n"
            "names = ['Deno', 'process', 'fetch', 'postMessage', 'Worker', 'caches', 'localStorage', "
            "'eval', 'importScripts', 'navigator', 'close', 'onmessage', 'Buffer', 'require']\n"
            "print([name for name in names if getattr(worker, name, None) is not None])\n"
            "try:\n    import js\nexcept ImportError:\n    print('no js')"
        )

    assert result == Completed("[]\nno js\n")
