"""MLflow's and Phoenix's tracers record a run: `pip install -e ".[integrations]"` brings both.

Nightly, because they are large and no part of the `dev` extra.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.nightly

PROGRAM = Path(__file__).with_name("traced_program.py")


def traced(tracer: str, folder: Path, *more: str) -> Any:
    """The output of the program under a tracer."""
    root = str(PROGRAM.parents[2])
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), tracer, str(folder), *more],
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
    (run,) = [span for span in seen["spans"] if span["parent"] is None]
    assert run["name"] in ("RLM.forward", "RLM(Module).forward")
    assert '"score": 2.5' in json.dumps(run["output"]).replace("\\", "")
    assert sum(name.startswith("LM.") for name in names) == 10


@pytest.mark.timeout(720)
@pytest.mark.parametrize("tracer", ["mlflow", "phoenix"])
def test_our_spans_join_those_of_a_tracer_and_double_none(tracer, tmp_path):
    """Beside another tracer, only iterations, cells and functions of the REPL are added, each in its place."""
    alone = traced(tracer, tmp_path)["spans"]
    folder = tmp_path / "both"
    folder.mkdir()
    both = traced(tracer, folder, "ours")["spans"]
    by_id = {span["id"]: span for span in both}

    def above(name: str) -> set[str]:
        parents = {span["parent"] for span in both if span["name"] == name} - {None}
        return {by_id[parent]["name"] for parent in parents}

    ours = Counter({
        "iteration 1": 2, "iteration 2": 1, "iteration 3": 1, "python": 4,
        "sub_llm": 2, "predict": 1, "sub_llm_batched": 1, "sub_rlm": 1,
    })  # fmt: skip
    names = Counter(span["name"] for span in both)
    assert names - Counter(span["name"] for span in alone) == ours
    assert len({span["trace"] for span in both}) == 1
    assert [span["parent"] for span in both].count(None) == 1
    (run,) = {span["name"] for span in both if span["parent"] is None}
    assert above("iteration 1") == above("iteration 2") == {run}
    assert above("sub_llm") == above("sub_rlm") == {"python"}
    assert above(run) == {"sub_rlm"}
    assert above("ActionPredictor.forward") == {"iteration 1", "iteration 2", "iteration 3"}
    (tool,) = (name for name in names if "find" in name)
    assert above(tool) == {"python"}


@pytest.mark.timeout(360)
def test_an_instrumentation_may_write_elsewhere(tmp_path):
    """Without another tracer, the same program has all spans from us: the run and its LM calls too."""
    spans = traced("none", tmp_path, "ours")["spans"]
    names = Counter(span["name"] for span in spans)

    assert names["RLM"] == 2
    assert (
        sum(
            count for name, count in names.items() if name.endswith((" openai/root", " openai/sub"))
        )
        == 10
    )
