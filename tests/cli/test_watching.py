"""The view of runs in progress: a tree on a terminal, lines with `--plain`, nothing with `--quiet`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Server

from dspy_rlm import drop_in
from dspy_rlm.cli.watching import live_of
from dspy_rlm.process_settings import process_settings, replace_process_settings

pytest.importorskip("rich")
pytest.importorskip("pyte")
if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

from screens import Screen, screen

PROGRAM = """
import dspy
lm = dspy.LM("openai/root", api_base={address!r}, api_key="none", cache=False)
sub = dspy.LM("openai/sub", api_base={address!r}, api_key="none", cache=False)
with dspy.context(lm=lm):
    found = dspy.RLM("text, question -> answer", sub_lm=sub)(text="one ERROR", question="ERROR")
print("the program says", found.answer)
"""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """Yields a terminal of 100 columns and 40 rows. pytest sets stderr after its fixtures, so a test does that itself."""
    monkeypatch.setenv("TERM", "xterm-256color")
    with screen(100, 40) as opened:
        yield opened


@pytest.mark.parametrize(
    ("flags", "on_a_terminal", "elsewhere"),
    [({}, True, False), ({"plain": True}, "plain", "plain"), ({"quiet": True}, False, False)],
)
def test_who_watches(flags, on_a_terminal, elsewhere, terminal, monkeypatch):
    """A person at a terminal sees the tree; a log has lines only if it asks for them."""
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    assert live_of(**flags) == on_a_terminal
    monkeypatch.setattr(sys, "stderr", None)
    assert live_of(**flags) == elsewhere


class TestAsk:
    def test_on_a_terminal(self, server: Server, terminal: Screen, monkeypatch):
        """The tree is on stderr, and stays there; stdout has the answer alone."""
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        done = server.ask("log.txt", "-q", "ERROR")
        lines = terminal.everything()

        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n")
        assert lines[0].startswith("Loaded 1 file")
        assert any(line.startswith("├─ ✓ [2] Find them.") for line in lines)
        assert any("meaning = sub_llm(" in line for line in lines)
        assert any(line.startswith("╰─ ✓ Submitted, 3 iterations") for line in lines)
        assert sum("RLM text, question -> answer" in line for line in lines) == 1
        assert sys.stderr is terminal.stream

    @pytest.mark.nightly
    def test_plain_and_quiet(self, server: Server, terminal: Screen, monkeypatch):
        """On a terminal too, `--plain` has lines without escape codes, and `--quiet` one line at the end."""
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        server.ask("log.txt", "-q", "ERROR", "--plain")
        plain = terminal.everything()
        raw = terminal.raw.decode()
        terminal.emulator.reset()
        server.ask("log.txt", "-q", "ERROR", "--quiet")

        assert "[2] Find them." in plain
        assert any(line.startswith("    Time by part: root ") for line in plain)
        assert "\x1b" not in raw
        (line,) = terminal.lines()
        assert line.startswith("(3 iterations")


@pytest.mark.nightly
@pytest.mark.parametrize("flags", [[], ["--plain"], ["--quiet"]])
def test_all_runs_of_a_program(server: Server, folder: Path, terminal: Screen, flags, monkeypatch):
    """`run program.py` shows the runs of an unchanged program, whose own output is above them."""
    (folder / "program.py").write_text(PROGRAM.format(address=server.policies.base_url))
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    before = process_settings().live
    try:
        done = server.run("run", *flags, "program.py")
    finally:
        replace_process_settings(live=before)
        drop_in.uninstall()
    text = "\n".join(terminal.everything())

    assert (done.returncode, done.stdout) == (0, "the program says It is bad: 1\n")
    assert ("╰─ ✓ Submitted" in text) is (not flags)
    assert ("[2] Find them." in text) is (flags != ["--quiet"])
