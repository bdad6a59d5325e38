"""`dspy-rlm ask` on inputs of many kinds: dry runs, notes, exit codes, and rows in a real run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command_line import Server

DRY = ["--model", "openai/root", "--dry-run"]


class TestDryRun:
    def test_it_says_how_each_file_is_read(self, run_here, folder):
        """Kinds, sizes, what was left out and why, and notes on encodings are part of a dry run."""
        (folder / "logs" / "old.txt").write_bytes("größer".encode("latin-1"))
        (folder / "logs" / ".hidden").write_text("x")
        done = run_here("ask", "logs", "-q", "Why?", *DRY)

        assert done.returncode == 0, done.stderr
        assert "files: dict, 3 texts, 42 characters" in done.stdout
        assert "  old.txt: text, 6 bytes\n" in done.stdout
        assert "left out: 1 hidden (1 bytes), 1 binary (2 bytes)\n" in done.stdout
        assert "note: old.txt: not UTF-8, read as windows-1252.\n" in done.stdout

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
    def test_names_are_shown_harmless(self, run_here, folder):
        """A name with escape sequences or line ends is on one line, spelled out."""
        (folder / "logs" / "a\x1b[31m\nread: fake.txt").write_bytes(b"\xe9 and more")
        done = run_here("ask", "logs", "-q", "Why?", *DRY)
        facts = done.stdout.partition("first prompt:")[0]

        assert "\x1b" not in facts
        assert "\\x1b[31m" in facts
        assert "\nread: fake" not in facts

    def test_as_json(self, run_here, folder):
        """Programs find the same under `sources`, `skipped` and `notes`."""
        (folder / "a.csv").write_text("n\n1\n")
        facts = json.loads(run_here("ask", "a.csv", "logs", "-q", "?", *DRY, "--json").stdout)

        assert facts["sources"][0] == {
            "variable": "files",
            "name": "a.csv",
            "kind": "csv",
            "compression": None,
            "bytes": 4,
            "read_as": "text",
        }
        assert facts["skipped"] == [{"name": "core", "reason": "binary", "bytes": 2, "count": 1}]
        assert facts["notes"] == []

    def test_ignored_files_are_read_on_request(self, run_here, folder):
        """`--no-ignore` switches the ignore rules off."""
        (folder / "logs" / ".gitignore").write_text("b.txt\n")

        assert "files: dict, 1 text," in run_here("ask", "logs", "-q", "?", *DRY).stdout
        assert (
            "files: dict, 2 texts,"
            in run_here("ask", "logs", "-q", "?", *DRY, "--no-ignore").stdout
        )


@pytest.mark.parametrize(
    ("argument", "content", "message"),
    [
        ("nothing.pdf", None, "Cannot read nothing.pdf: there is no such file or folder."),
        ("*.pdf", None, "Cannot read *.pdf: no file matches it."),
        ("ftp://example.com/x", None, "only http and https addresses are read"),
        ("http://127.0.0.1:1/", None, "Check the address and the network."),
        ("/dev/zero", None, "it is a device or a socket, not a file."),
        (
            "a.db",
            b"SQLite format 3\0" + b"x" * 5000,
            "Cannot read a.db as an SQLite database: it is damaged",
        ),
        ("a.jsonl", b"{}\nno\n", "line 2 is no JSON"),
        ("a.png", b"\x89PNG\0\0", "a.png is a PNG image, not a text."),
        ("docs=nothing", None, "Cannot read nothing: there is no such file or folder."),
    ],
)
def test_what_cannot_be_read(run_here, folder, argument, content, message):
    """Each refusal says what and why, and has the exit code of inputs."""
    if content is not None:
        (folder / argument).write_bytes(content)
    done = run_here("ask", argument, "-q", "Why?", *DRY)

    assert (done.returncode, done.stdout) == (10, "")
    assert message in done.stderr


def test_notes_are_warnings_of_a_run(server: Server):
    """In a run, a note on a file is a warning on stderr and in the JSON object."""
    Path("log.txt").write_bytes("one\ntwo ERROR\n\xe4\n".encode("latin-1"))
    done = server.ask("log.txt", "-q", "ERROR", "--json")

    note = "log.txt: not UTF-8, read as windows-1252."
    assert done.stderr.startswith(f"dspy-rlm: {note}\n")
    assert json.loads(done.stdout)["warnings"] == [note]


def test_one_file_fills_a_dict_that_is_declared(run_here):
    """A field that is declared as a dict of texts gets one for a single file too."""
    done = run_here(
        "ask", "log.txt", "--sig", "docs: dict[str, str], question -> a", "-q", "?", *DRY
    )

    assert "docs: dict, 1 text, 31 characters" in done.stdout, done.stderr
