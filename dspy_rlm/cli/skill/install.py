"""The command `dspy-rlm skill`: prints the skill file, or writes it where agents find it."""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from dspy_rlm.cli.asking.envelope import write_whole
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError
from dspy_rlm.terminal.escaping import show, show_exactly

# The folder of the skill, as the standard requires: that of its name.
NAME, FILE = "dspy-rlm", "SKILL.md"

# The folders of a project in which agents look for skills: of most, and of Claude Code.
_COMMON, _CLAUDE = Path(".agents/skills"), Path(".claude/skills")


def skill_text() -> str:
    """Returns the skill file."""
    return files("dspy_rlm.cli.skill").joinpath(FILE).read_text("utf-8")


def run_skill(options: argparse.Namespace) -> int:
    """Prints or installs the skill file.

    Raises:
        CommandError: It cannot be written.
    """
    if options.install is None:
        show_exactly(skill_text().rstrip("\n"), sys.stdout)
        return 0
    for folder in _folders(options.install):
        show(str(_written(folder / NAME / FILE)), sys.stdout)
    return 0


def _folders(named: Path) -> list[Path]:
    if named != Path():
        return [named]
    return [_COMMON, *([_CLAUDE] if _CLAUDE.parent.is_dir() else [])]


def _written(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, skill_text())
    except OSError as error:
        raise CommandError(
            f"The skill cannot be written to {path}: {error.strerror}. Name another folder after --install.",
            CONFIGURATION,
        ) from error
    return path
