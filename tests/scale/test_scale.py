"""A small trial: one kill of each kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.nightly
@pytest.mark.timeout(1_200)
def test_every_row_ends_once_whatever_dies():
    """A worker, a node and the driver are killed, and one row ends its worker at each try."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'dspy-rlm[ray]'")
    pytest.importorskip("psutil", reason="psutil is not installed: pip install psutil")
    kills = ["--actors", "1", "--raylets", "1", "--drivers", "1"]
    command = [sys.executable, "-m", "tests.scale", "--rows", "30", *kills, "--more", "0.3"]

    trial = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert trial.returncode == 0, trial.stdout[-3_000:] + trial.stderr[-1_000:]
