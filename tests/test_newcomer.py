"""The newcomer's way: the commands of README.md lead to an answer over a folder, with a model of one's own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from doc_blocks import PROJECT, Block, blocks

from dspy_rlm.cli.demo.search import players
from dspy_rlm.cli.main import command_parser
from dspy_rlm.testing import PolicyServer, asks_for, route

README = PROJECT / "README.md"
ADDRESS = "http://127.0.0.1:8000/v1"


def block_with(words: str) -> Block:
    """Returns the block of README.md with these words."""
    (found,) = (block for block in blocks(README) if words in block.code)
    return found


def test_the_commands_exist():
    """The readme's commands name commands, flags and paths that exist, and are three for one's own folder."""
    lines = block_with("dspy-rlm ask").code.strip().splitlines()
    assert len(lines) == 3
    program, command, folder, *flags = shlex.split(lines[2])
    assert program.endswith("dspy-rlm")
    options = command_parser().parse_args([command, folder, *flags])
    assert options.paths == [folder]
    assert (PROJECT / folder).is_dir()
    variables = re.findall(r"(DSPY_RLM_\w+)=", lines[1])
    assert variables == ["DSPY_RLM_MODEL", "DSPY_RLM_API_BASE"]
    assert command_parser().parse_args([block_with("dspy-rlm demo").code.split()[-1]])
    assert "[project.optional-dependencies]\ndev = [" in (PROJECT / "pyproject.toml").read_text(
        "utf-8"
    )


@pytest.mark.nightly  # builds and installs the package: minutes
@pytest.mark.timeout(1200)
def test_three_commands_lead_to_an_answer(tmp_path: Path):
    """They run as they stand, in a fresh clone; only the model's address is that of a policy server."""
    clone = tmp_path / "clone"
    git = shutil.which("git")
    assert git is not None
    subprocess.run([git, "clone", "--quiet", os.fspath(PROJECT), os.fspath(clone)], check=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DSPY_RLM_", "PYTHON", "OPENAI", "VIRTUAL_ENV"))
    }
    played = players()
    one = route((asks_for("code"), played["root"]), otherwise=played["sub"])
    with PolicyServer({"my-model": one}) as server:
        script = block_with("dspy-rlm ask").code.replace(ADDRESS, server.base_url)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        asked = server.requests_to("my-model")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1]
    assert "There are" in done.stdout
    assert len(asked) >= 4
