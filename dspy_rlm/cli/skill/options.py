"""The flags of `dspy-rlm skill`. Imports nothing that takes time."""

from __future__ import annotations

import argparse
from pathlib import Path


def describe_skill(skill: argparse.ArgumentParser) -> None:
    """Adds the flags of `skill`."""
    skill.description = (
        "Prints a skill file for coding agents: when to ask a recursive model about large inputs, and how. With --install, "
        "writes it where agents look for skills."
    )
    action = skill.add_mutually_exclusive_group()
    action.add_argument(
        "--install", metavar="DIR", nargs="?", const=Path(), type=Path,
        help="write DIR/dspy-rlm/SKILL.md; without DIR, below .agents/skills of this folder, and below .claude/skills if "
        "there is a .claude folder",
    )  # fmt: skip
    action.add_argument("--print", action="store_true", help="print it (default)")
