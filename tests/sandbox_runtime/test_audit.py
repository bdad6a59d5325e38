"""Audit events: one record per security-relevant event, which no text can forge."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from sandbox_runtime import Limits, Session, audit, open_session
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.isolation.os_isolation import NO_WALL
from sandbox_runtime.open import ready_engine

DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"

LIMITS = Limits(cell_seconds=0.5, grace_seconds=0.3)


class Seen(logging.Handler):
    """Collects this thread's audit records; other tests' pools may be active in their own threads."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._thread = threading.get_ident()

    def emit(self, record):
        """Stores a record."""
        if record.thread == self._thread:
            self.records.append(record)

    def names(self):
        """Returns the names of the events so far."""
        return [record.event for record in self.records]

    def facts(self, event):
        """Returns the facts of the first event with this name."""
        return next(record.facts for record in self.records if record.event == event)


@pytest.fixture
def seen():
    """A handler of the audit logger for the duration of a test."""
    logger, handler = logging.getLogger(audit.LOGGER_NAME), Seen()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


class TestRecords:
    def test_a_record_is_one_line_of_ascii_json(self, seen):
        """An attacker's text can neither start a second line nor hide behind escape sequences."""
        audit.record(
            "tool.refused", tool="x\nERROR protocol.violated\x1b[2J\u202e\ud800", reason=""
        )

        (record,) = seen.records
        message = record.getMessage()
        assert message.isascii()
        assert message.isprintable()
        assert json.loads(message.removeprefix("tool.refused "))["tool"].startswith("x\nERROR")

    def test_text_is_cut(self, seen):
        """A flood of large texts cannot fill a disk."""
        audit.record("tool.refused", tool="x" * 10_000_000, reason="")

        assert len(seen.records[0].getMessage()) < 2 * audit.MAX_FACT_CHARS
        assert "(10,000,000 characters)" in seen.facts("tool.refused")["tool"]

    def test_what_a_cell_causes_at_will_is_thinned(self, seen):
        """A million refusals yield some hundred records, and the last one has the count."""
        refusals = audit.Thinned()
        for _ in range(1_000_000):
            refusals.record("tool.refused", tool="x", reason="")

        counts = [r.facts["count"] for r in seen.records if r.event == "tool.refused"]
        assert len(counts) < 2 * audit.ALL_RECORDED
        assert counts[0] == 1
        assert counts[-1] == 2**19

    def test_a_secret_is_taken_out(self, seen, monkeypatch):
        """A log is kept for longer, and read by more people, than the environment."""
        monkeypatch.setenv("SERVICE_TOKEN", "hidden-key-0123456789")
        audit.record("value.refused", where="SUBMIT", reason="x" * 290 + "hidden-key-0123456789")

        assert "hidden-key" not in seen.records[0].getMessage()

    def test_an_unknown_event_is_refused(self):
        """The list of events is complete, so that the documentation can be."""
        with pytest.raises(KeyError):
            audit.record("something.else")

    def test_nothing_is_printed_by_itself(self, capfd):
        """A library does not write to a program's stderr."""
        audit.record("protocol.violated", pid=1, reason="protocol", detail="x")

        assert capfd.readouterr() == ("", "")


class TestSessions:
    def test_open_and_close(self, seen):
        """Opening and closing a session are recorded, with its process."""
        with open_session(tools={"echo": str}) as session:
            pid = session.pid

        assert seen.names() == ["session.opened", "session.closed"]
        assert seen.facts("session.opened")["pid"] == pid
        assert seen.facts("session.closed") == {"pid": pid, "restarts": 0}

    def test_a_process_that_is_killed(self, seen):
        """The record has the reason, and another one has the new process."""
        with open_session() as session:
            os.kill(session.pid, signal.SIGKILL)
            session.run_cell("1")

        assert seen.names()[1:3] == ["process.ended", "session.replaced"]
        assert seen.facts("session.replaced")["state_lost"] is False

    def test_a_cell_that_runs_too_long(self, seen):
        """An interrupted cell is recorded; the process stays."""
        with open_session(LIMITS) as session:
            session.run_cell("while True: pass")

        assert seen.names() == ["session.opened", "cell.timed_out", "session.closed"]

    def test_a_cell_that_cannot_be_interrupted(self, seen):
        """The killed process and its replacement are recorded, with the reason."""
        with open_session(LIMITS) as session:
            session.run_cell("sum(range(10**12))")

        assert seen.facts("process.ended")["reason"] == "cellSeconds"
        assert "session.replaced" in seen.names()

    def test_calls_and_values_that_are_refused(self, seen):
        """The record has the tool and the reason."""
        with open_session(tools={"echo": lambda value: value}) as session:
            session.run_cell("try:\n    echo()\nexcept TypeError: pass")
            session.run_cell("SUBMIT(answer=(0).__class__(10) ** 100_000)")

        assert seen.facts("tool.refused")["tool"] == "echo"


def test_a_missing_wall_is_recorded_once(seen):
    """One record per process, with what is missing; none where the wall is whole."""
    executable.report_wall.cache_clear()
    for _ in range(2):
        executable.report_wall(NO_WALL)

    assert seen.names() == ["wall.missing"]
    assert seen.facts("wall.missing")["found"] == str(NO_WALL)


@pytest.mark.nightly  # builds an engine; security/test_escaped.py has others
def test_a_session_of_a_broken_build_violates_the_protocol(seen, tmp_path_factory):
    """A violation of the protocol is recorded; an honest cell never causes such a record."""
    from tests.security.builds import shared_escape

    engine = shared_escape(ready_engine(), tmp_path_factory.getbasetemp())
    with Session(engine, LIMITS, {}, None) as session:
        session.run_cell("import js\njs.Deno.stdout.writeSync(js.Uint8Array.new([1, 2, 3]))")

    (record,) = [record for record in seen.records if record.levelno == logging.ERROR]
    assert record.event == "protocol.violated"


def test_every_event_is_documented():
    """The deployment page lists all events with their levels, and no other."""
    rows = re.findall(r"^\| `([\w.]+)` \| (\w+) \|", DEPLOYMENT.read_text("utf-8"), re.M)

    assert {name: logging.getLevelNamesMapping()[level] for name, level in rows} == dict(
        audit.EVENTS
    )
