"""The file of a journal: whole lines, nothing lost by a kill, never an error for the run."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dspy_rlm.journal.file import JournalFile, try_lock
from dspy_rlm.journal.places import Place, new_journal


def events(path: Path) -> list[dict]:
    """Returns the events of a file, in order."""
    return [json.loads(line) for line in path.read_text().splitlines() if line]


@pytest.fixture
def journal(tmp_path: Path) -> JournalFile:
    journal = new_journal(Place(tmp_path / "run.jsonl"), "r1")
    journal.begin("r1")
    return journal


def test_events_are_numbered_lines(journal):
    """The first line has the format and its version; each has its number and the time."""
    journal.append({"e": "one"})
    journal.append({"e": "two", "text": "ä\n\ud800", "number": 1 << 70})

    first, one, two = events(journal.path)

    assert (first["format"], first["version"], first["run"]) == ("dspy-rlm.journal", 1, "r1")
    assert [event["seq"] for event in (first, one, two)] == [0, 1, 2]
    assert (two["text"], two["number"]) == ("ä\n\ud800", 1 << 70)


def test_threads_do_not_mix_lines(journal):
    """Each event is one write, so that those of many threads are whole and in the order of their numbers."""
    threads = [
        threading.Thread(target=lambda: [journal.append({"e": "x" * 300}) for _ in range(200)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [event["seq"] for event in events(journal.path)] == list(range(1601))


def test_a_killed_process_loses_nothing_that_was_appended(tmp_path):
    """The operating system has the line once `append` returns."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from dspy_rlm.journal.places import Place, new_journal\n"
        "journal = new_journal(Place(Path(sys.argv[1])), 'r1')\n"
        "journal.begin('r1')\n"
        "for number in range(1000):\n"
        "    journal.append({'e': 'x', 'number': number})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "run.jsonl"

    done = subprocess.run([sys.executable, "-c", program, path], check=False, timeout=60)

    assert done.returncode == -9
    assert [event.get("number") for event in events(path)] == [None, *range(1000)]


def test_a_second_run_has_a_file_of_its_own(journal, tmp_path):
    """The name of a file is that of the first run; the next ones get a number, and nothing is overwritten."""
    second = new_journal(Place(tmp_path / "run.jsonl"), "r2")
    second.begin("r2")

    assert second.path == tmp_path / "run-2.jsonl"
    assert [events(one.path)[0]["run"] for one in (journal, second)] == ["r1", "r2"]


def test_a_journal_is_private(journal):
    """Its content is as private as the inputs."""
    assert journal.path.stat().st_mode & 0o077 == 0


class Full:
    """A disk that is full, and has room again: a pipe that nobody reads."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.writing, False)
        os.set_blocking(self.reading, False)

    def drain(self) -> str:
        """Makes room; returns what was written."""
        text = b""
        while True:
            try:
                text += os.read(self.reading, 1 << 20)
            except BlockingIOError:
                return text.decode()


class TestFailures:
    def test_a_failure_is_said_once(self, tmp_path, caplog):
        """A disk that is full ends no run: the first failure is logged, and in the report."""
        full = Full()
        journal = JournalFile(lambda: (tmp_path / "run.jsonl", full.writing))
        journal.begin("r1")
        with caplog.at_level(logging.WARNING):
            for _ in range(1000):
                journal.append({"e": "x" * 1000})

        assert journal.problem.startswith("BlockingIOError") or "OSError" in journal.problem
        assert len(caplog.records) == 1
        assert "run.jsonl" in caplog.text

    def test_writing_goes_on_when_it_can(self, tmp_path):
        """Once there is room again, an event says how many are missing; the torn line before it ends."""
        full = Full()
        journal = JournalFile(lambda: (tmp_path / "run.jsonl", full.writing))
        journal.begin("r1")
        for _ in range(100):
            journal.append({"e": "x" * 10_000})  # longer than what a pipe writes in one piece
        whole, torn = full.drain().rsplit("\n", 1)
        journal.append({"e": "again"})

        nothing, gap, again, end = full.drain().split("\n")
        last = json.loads(whole.splitlines()[-1])["seq"]
        assert torn != ""
        assert (nothing, end) == ("", "")
        assert (json.loads(gap)["e"], json.loads(gap)["lost"]) == ("gap", 100 - last)
        assert (json.loads(again)["e"], json.loads(again)["seq"]) == ("again", 101)

    def test_a_file_that_cannot_be_created_is_said_once(self, tmp_path, caplog):
        """A folder that is gone when the run begins: the run has no journal, and goes on."""
        (tmp_path / "a").write_text("a file in the place of the folder")
        journal = new_journal(Place(tmp_path / "a" / "run.jsonl"), "r1")

        journal.begin("r1")
        journal.append({"e": "x"})

        assert journal.path is None
        assert "Error" in journal.problem
        assert len(caplog.records) == 1

    def test_a_deleted_file_is_noticed(self, journal):
        """Lines that go to a file without a name are lost: this is noted when they are synced."""
        journal.path.unlink()
        journal.append({"e": "x"})

        journal.sync()

        assert "deleted" in journal.problem

    def test_an_event_that_is_no_json_is_lost_alone(self, journal):
        """A mistake of ours costs one line, not the run."""
        journal.append({"e": object()})
        journal.append({"e": "next"})

        assert [event["e"] for event in events(journal.path)] == ["journal", "gap", "next"]

    def test_an_event_that_is_too_long_is_lost_alone(self, journal):
        """No line is longer than what a reader takes."""
        journal.append({"e": "x" * (17 * 1024 * 1024)})

        assert "too long" in journal.problem
        assert journal.path.stat().st_size < 1000


def test_a_closed_journal_takes_no_more(journal):
    """Threads that outlive the run write nothing after its last event, and the file is closed."""
    journal.append({"e": "end"})
    journal.close()
    journal.append({"e": "late"})

    assert journal.sync()
    assert [event["e"] for event in events(journal.path)] == ["journal", "end"]


def test_a_journal_is_locked_until_it_is_closed(journal):
    """Another process cannot resume a run that goes on; as soon as it has ended, it can."""
    handle = os.open(journal.path, os.O_WRONLY)
    try:
        before = try_lock(handle)
        journal.close()

        assert (before, try_lock(handle)) == (False, True)
    finally:
        os.close(handle)
