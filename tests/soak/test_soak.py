"""The soak test, briefly and at length; each night runs both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


def soak(*arguments: str) -> str:
    """Runs the soak program, which must succeed, and returns its output."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.soak", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.mark.nightly  # ten seconds; what it mixes is tested part by part in `tests/sandbox_runtime`
def test_a_few_sessions():
    """A short run of the soak program finds no difference and no leak."""
    assert soak("--sessions", "4", "--seed", "1", "--patience", "60").endswith("ok\n")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_many_sessions():
    """No leak, no wrong result and no hang, whatever is killed and when."""
    soak("--sessions", "500", "--seed", "1")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_many_runs_leave_nothing_in_their_process():
    """A process with DSPy's histories turned off does not grow: no memory, objects, threads or files by the run."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.soak.growth", "--runs", "300"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ended.returncode == 0
    per_run = json.loads(ended.stdout)["per run"]

    # A run that is kept has thousands of objects. Resident memory varies by 30 MB with what malloc gives back.
    assert per_run["objects"] < 20
    assert per_run["kib"] < 250
    assert per_run["threads"] < 0.05
    assert per_run["files"] < 0.1
