"""`dspy-rlm skill`: a skill file that agents accept, whose commands and exit codes exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from command_line import Run

from dspy_rlm.cli import exit_codes
from dspy_rlm.cli.exit_codes import CONFIGURATION
from dspy_rlm.cli.main import command_parser
from dspy_rlm.cli.skill.install import skill_text

TEXT = skill_text()


def test_the_front_matter():
    """Name and description are there, within the lengths of the standard (64 and 1,024 characters)."""
    assert TEXT.startswith("---\n")
    lines = TEXT.split("---\n")[1].splitlines()
    fields = dict(line.split(": ", 1) for line in lines)
    assert set(fields) == {"name", "description"}
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"])
    assert len(fields["name"]) <= 64
    assert 100 < len(fields["description"]) <= 1_024


def commands() -> list[str]:
    """Returns the commands of the file, those in its sentences too."""
    blocks = re.findall(r"^\$ (dspy-rlm .*)$", TEXT, re.MULTILINE)
    return [*blocks, *re.findall(r"`(dspy-rlm [^`]*)`", TEXT)]


def test_the_commands_exist():
    """Each is parsed by the command line."""
    found = commands()
    assert len(found) >= 5
    for command in found:
        words = shlex.split(command)[1:]
        if words != ["ask"]:  # its name alone
            assert callable(command_parser().parse_args(words).command)


def test_the_flags_exist():
    """Each flag in its sentences is one of `ask`."""
    known = command_parser().parse_args(["ask"])
    flags = set(re.findall(r"--[a-z][a-z-]+", TEXT))
    assert len(flags) >= 8
    renamed = {"sig": "signature", "sub_model": "sub_models"}
    for flag in flags:
        name = flag.lstrip("-").replace("-", "_")
        assert hasattr(known, renamed.get(name, name)), flag


def test_the_exit_codes_are_those_of_the_command():
    """The table lists them with their numbers."""
    codes = {
        int(code)
        for row in re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE)
        for code in row.split(", ")
    }
    assert codes == {
        *(exit_codes.COMPLETE, exit_codes.NOT_SUBMITTED, exit_codes.BUDGET, exit_codes.INPUT),
        *(
            exit_codes.CONFIGURATION,
            exit_codes.MODEL,
            exit_codes.AUTHENTICATION,
            exit_codes.SANDBOX,
        ),
    }


def test_installed_for_the_agents_of_a_project(run_here: Run, folder: Path):
    """Below `.agents`, and below `.claude` where there is one; a file that is there is replaced."""
    (folder / ".claude").mkdir()
    for _ in range(2):
        done = run_here("skill", "--install")
        assert done.stdout.split() == [
            ".agents/skills/dspy-rlm/SKILL.md",
            ".claude/skills/dspy-rlm/SKILL.md",
        ]
    assert (folder / ".claude/skills/dspy-rlm/SKILL.md").read_text("utf-8") == TEXT
    assert run_here("skill", "--install", "mine").stdout.strip() == "mine/dspy-rlm/SKILL.md"
    assert run_here("skill", "--print").stdout == TEXT


def test_a_folder_that_cannot_be_written(run_here: Run, folder: Path):
    """The error names the file."""
    done = run_here("skill", "--install", "log.txt")
    assert done.returncode == CONFIGURATION
    assert "log.txt/dspy-rlm/SKILL.md" in done.stderr
