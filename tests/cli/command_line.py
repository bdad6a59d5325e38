"""Runs commands for the tests: in this process, or in a new one; with a policy server as the LM.

A new process needs two seconds to import DSPy, so most tests run commands in this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dspy_rlm.testing import Action, PolicyServer, Task, policy, rules

COMMAND = [sys.executable, "-m", "dspy_rlm.cli.main"]

LOG = "one\ntwo ERROR\nthree\nfour ERROR\n"


@policy
def find_errors(task: Task):
    """A cell that finds the lines with ERROR, queries the sub-LM about them, and fits the signature."""
    if "`files`" in task.variables_info:
        look = "text = ''.join(files.values())\nprint(list(files))"
    else:
        look = "print(len(text))"
    yield Action("How much is there?", look)
    yield Action(
        "Find them.",
        "lines = [n for n, line in enumerate(text.split('\\n'), 1) if question in line]\n"
        "meaning = sub_llm(f'{len(lines)} lines with {question}')\nprint(lines)",
    )
    fields = "answer=meaning, lines=lines" if "`lines`" in task.system else "answer=meaning"
    yield Action("Tell.", f"SUBMIT({fields})")


Run = Callable[..., subprocess.CompletedProcess[str]]


class Server:
    """A policy server, and commands that use it."""

    def __init__(self, folder: Path, run: Run) -> None:
        models = {
            "root": find_errors,
            "sub": rules([(r"^(\d+) lines", lambda m: f"It is bad: {m[1]}")]),
        }
        self.policies = PolicyServer(models)
        self.folder = folder
        self.run = run
        self.arguments = ["--api-base", self.policies.base_url]
        self.arguments += ["--model", "openai/root", "--sub-model", "openai/sub"]

    def ask(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs `dspy-rlm ask` on this server's models."""
        return self.run("ask", *self.arguments, *arguments, variables=variables)


def environment(folder: Path) -> dict[str, str]:
    """An environment without models, keys and settings, with a separate cache."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if "API_KEY" not in name and not name.startswith("DSPY_RLM_")
    }
    own = {"DSPY_CACHEDIR": str(folder / "cache"), "DSPY_RLM_CONFIG": os.devnull}
    return {**kept, **own, "no_proxy": "127.0.0.1"}


def run(
    *arguments: str, folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
