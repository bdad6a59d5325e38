"""Every command of docs/cli.md, docs/inputs.md and docs/mcp.md runs, and prints what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command_line import Run

from dspy_rlm.cli.demo.search import players
from dspy_rlm.testing import PolicyServer

DOCS = Path(__file__).parents[2] / "docs"

# The address on the page.
ADDRESS = "http://127.0.0.1:8000/v1"


def commands(page: Path) -> list[tuple[str, str]]:
    """Returns the commands of a page in their order, each with the output below it."""
    blocks = re.findall(
        r"^```console\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [tuple(part.split("\n", 1)) for part in parts]  # type: ignore[misc]


def fits(output: str, promised: str) -> bool:
    """Returns whether an output is the promised one, in which `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in promised.split("..."))
    return re.fullmatch(pattern, output, re.DOTALL) is not None


@pytest.mark.parametrize(("name", "least"), [("cli", 24), ("inputs", 6), ("mcp", 3)])
def test_the_commands_of_a_page(
    name: str, least: int, run_here: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """The commands run one after the other in one folder, with the policies of `serve-policy`."""
    code, count = 0, 0
    with PolicyServer(players()) as policies:
        for command, promised in commands(DOCS / f"{name}.md"):
            program, *arguments = shlex.split(command.replace(ADDRESS, policies.base_url))
            if program == "cat":
                (folder / arguments[0]).write_text(promised.replace(ADDRESS, policies.base_url))
            elif program == "export":
                for pair in arguments:
                    monkeypatch.setenv(*pair.split("=", 1))
            elif program == "echo":
                assert promised == f"{code}\n", command
            else:
                assert program == "dspy-rlm"
                done = run_here(*arguments)
                code, count = done.returncode, count + 1
                assert fits(done.stdout, promised), f"{command}\n{done.stdout}\n{done.stderr}"

    assert count >= least
