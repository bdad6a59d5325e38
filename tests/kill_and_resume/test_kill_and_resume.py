"""A few runs that are killed and resumed; `python -m tests.kill_and_resume` makes as many as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


def kill_and_resume(*arguments: str) -> str:
    """Runs the program, which must succeed, and returns its output."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.kill_and_resume", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.mark.nightly  # rlm/test_kills.py and rlm/test_resume.py have its parts
def test_one_run_of_batches():
    """A killed run goes on with the same answers, and no answered call is sent again."""
    assert "1 runs, 0 failed" in kill_and_resume("--runs", "1", "--program", "batches")


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_many_runs():
    """The same with nesting, tools and killed sandboxes."""
    assert " 0 failed" in kill_and_resume("--runs", "100", "--seed", "1")
