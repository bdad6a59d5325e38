"""A Ray cluster on this machine, for the nightly tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_rlm.testing.server import DUMMY_API_KEY


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """Starts a cluster of one node whose workers have the key of the policy server in their environment."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'dspy-rlm[ray]'")
    # Workers import the tests' modules, and inherit the environment of the node.
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": {"OPENAI_API_KEY": DUMMY_API_KEY, "PYTHONPATH": paths}},
    )
    yield ray
    ray.shutdown()
