"""MLflow's and Phoenix's tracers record a run: `pip install -e ".[integrations]"` brings both.

Nightly, because they are large and no part of the `dev` extra.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.nightly

PROGRAM = Path(__file__).with_name("traced_program.py")


def traced(tracer: str, folder: Path) -> Any:
    """What the program prints under a tracer."""
    root = str(PROGRAM.parents[2])
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), tracer, str(folder)],
        env={**os.environ, "PYTHONPATH": root, "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.timeout(360)
@pytest.mark.parametrize("tracer", ["mlflow", "phoenix"])
def test_a_run_is_traced(tracer, tmp_path):
    """The run, its turns, its sub-calls and their parts are spans that ended well, with plain outputs."""
    seen = traced(tracer, tmp_path)
    names = [span["name"] for span in seen["spans"]]

    assert seen["answer"] == "5"
    assert {span["status"].rpartition(".")[2] for span in seen["spans"]} <= {"OK", "UNSET"}
    (run,) = [
        span for span in seen["spans"] if span["name"] in ("RLM.forward", "RLM(Module).forward")
    ]
    assert '"score": 2.5' in json.dumps(run["output"]).replace("\\", "")
    assert sum(name.startswith("LM.") for name in names) == 4
