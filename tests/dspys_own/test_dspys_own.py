"""DSPy's own tests of its RLM and its interpreter pass on ours, but for those in `differences.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .differences import REASONS
from .on_ours import OUTCOMES
from .sources import TAG, UnreachableError, fetch_tests

# Whichever asks first for the outcomes waits for all of DSPy's tests.
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, str]:
    """Returns the outcome of each test by its name without parameters; of several, the worst."""
    folder = tmp_path_factory.mktemp("dspys-own")
    try:
        fetch_tests(folder)
    except UnreachableError as error:
        pytest.skip(f"{error}. DSPY_CHECKOUT may name a checkout of DSPy {TAG}.")
    return run_on_ours(folder)


def run_on_ours(folder: Path) -> dict[str, str]:
    """Runs the tests in a pytest of their own, for DSPy's are a package called `tests` too."""
    outcome_file = folder / "outcomes.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "on_ours", "--deno", "--timeout", "60"]
    for plugin in ("randomly", "asyncio", "anyio", "cacheprovider"):
        command += ["-p", f"no:{plugin}"]
    command += ["-c", os.devnull, "--rootdir", str(folder), "tests"]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, OUTCOMES: str(outcome_file)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert outcome_file.exists(), ended.stdout + ended.stderr
    worst: dict[str, str] = {}
    for name, outcome in json.loads(outcome_file.read_text("utf-8")).items():
        plain = name.removeprefix("tests/").split("[")[0]
        if not worst.get(plain, "").startswith("failed"):
            worst[plain] = outcome
    return worst


def test_all_pass_but_for_the_differences(outcomes):
    """A test that is not listed passes."""
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.startswith("failed")}
    unexpected = {name: outcome for name, outcome in failed.items() if name not in REASONS}
    assert not unexpected
    assert sum(outcome.startswith("passed") for outcome in outcomes.values()) > len(failed)


def test_the_differences_are_true(outcomes):
    """One that is listed is there, and ends otherwise."""
    assert {name for name in REASONS if not outcomes.get(name, "").startswith("failed")} == set()
