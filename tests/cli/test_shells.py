"""Completion in real shells, and the reference page: both come from the parser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dspy_rlm.cli import commands
from dspy_rlm.cli.main import main
from dspy_rlm.cli.shells.completion import SHELLS, script
from dspy_rlm.cli.shells.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli-reference.md"

BASH = """\
source {script}
reply() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _shtab_dspy_rlm; echo "${{COMPREPLY[@]}}"; }}
"""

LINES = [
    ("dspy-rlm optim", {"optimize"}),
    ("dspy-rlm runs di", {"diagnose"}),
    ("dspy-rlm ask --max-c", {"--max-cost", "--max-concurrency"}),
    ("dspy-rlm ask --on-exhausted ", {"extract", "partial", "raise"}),
    ("dspy-rlm ask not", {"notes.txt"}),
    ("dspy-rlm runs show --journals fol", {"folder"}),
]


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the scripts of all shells, which is the current one."""
    for shell in SHELLS:
        (tmp_path / shell).write_text(script(shell))
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output_of(*command: str) -> str:
    """Returns what a shell prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash(scripts: Path):
    """Commands, actions, flags, choices, files and folders are completed."""
    calls = []
    for line, _ in LINES:
        words = line.split(" ")
        calls.append("reply " + " ".join(f"'{word}'" for word in words))
    shown = output_of("bash", "-c", BASH.format(script="./bash") + "\n".join(calls)).splitlines()

    assert [set(one.split()) for one in shown] == [promised for _, promised in LINES]


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
def test_fish(scripts: Path):
    """The same in fish, which shows the help beside each."""
    for line, promised in LINES[:3]:
        shown = output_of("fish", "-N", "-c", f"source fish; complete -C '{line}'")

        assert {one.split("\t")[0] for one in shown.splitlines() if one} == promised


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
def test_zsh(scripts: Path):
    """TAB after the beginning of a command completes it, at a real prompt."""
    ours, theirs = os.openpty()
    child = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    begin = 'autoload -Uz compinit; compinit -u -D; eval "$(cat zsh)"; echo rea""dy\n'
    os.write(ours, begin.encode())
    _read_until(ours, b"ready")
    os.write(ours, b"dspy-rlm optim\t")
    shown = _read_until(ours, b"optimize")
    child.kill()
    child.wait()
    os.close(ours)

    assert b"optimize" in shown


def _read_until(terminal: int, text: bytes) -> bytes:
    found, end = b"", time.monotonic() + 60
    while text not in found and time.monotonic() < end:
        found += os.read(terminal, 65536)
    return found


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str]):
    """`completion SHELL` prints the script, and imports no DSPy for it."""
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out.strip() == script("bash").strip()
    code = (
        "import sys; from dspy_rlm.cli.main import main; main(['completion', 'fish']); "
        "sys.exit('dspy' in sys.modules or 'pydantic' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0  # fmt: skip
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])


def test_the_reference_is_current():
    """The page in docs/ is that of the parser. To renew it: `python -m dspy_rlm.cli.shells.reference > docs/cli-reference.md`."""
    assert PAGE.read_text("utf-8") == reference()


def test_each_command_can_be_found():
    """The table of commands names functions that exist."""
    for command in commands.COMMANDS:
        for name in filter(None, (command.describe, command.run)):
            assert callable(commands.target(name)), name
