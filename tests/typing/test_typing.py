"""Type checkers see the public API with its types, as they would in a user's project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

API = Path(__file__).with_name("api.py")
PROJECT = Path(__file__).parents[2]

REFUSED = {
    number: match[1]
    for number, line in enumerate(API.read_text().splitlines(), 1)
    if (match := re.search(r"# refused: (\S+)", line))
}


def test_both_packages_say_that_they_are_typed():
    """Both packages have `py.typed` (PEP 561); without it a type checker treats every name as `Any`."""
    for package in ("dspy_rlm", "sandbox_runtime"):
        assert (PROJECT / package / "py.typed").is_file()


def test_mypy_sees_the_signatures(tmp_path):
    """It refuses exactly the lines that say so."""
    shutil.copy(API, tmp_path)
    command = ["-m", "mypy", "--no-incremental", "--ignore-missing-imports", "api.py"]
    ended = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    # Whether mypy finds these names of DSPy depends on how DSPy is installed; every other error counts.
    unknown = r'Module has no attribute "(?:Signature|LM)"|Name "dspy.Signature" is not defined'
    own = re.sub(rf".*(?:{unknown}).*\n", "", ended.stdout)
    errors = re.findall(r"^api\.py:(\d+): error: .*\[([\w-]+)\]$", own, re.M)
    assert {int(line): rule for line, rule in errors} == REFUSED, ended.stdout


@pytest.mark.nightly
def test_pyright_sees_the_signatures(tmp_path):
    """pyright, which editors use, sees the same signatures. It fetches its own program from the npm registry."""
    shutil.copy(API, tmp_path)
    command = ["-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "api.py"]
    ended = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    found = json.loads(ended.stdout)["generalDiagnostics"]
    errors = {item["range"]["start"]["line"] + 1 for item in found if item["severity"] == "error"}
    assert errors == set(REFUSED), ended.stdout
