"""What all tests share: the environment they need, and a check that they leave nothing running."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

# DSPy else asks the internet for a price list when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# A shell that starts the tests in the background has them ignore it, and with them what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings
from soak import faults

from sandbox_runtime import default_pool

# An example that takes long on a loaded machine is no failure; one that hangs meets pytest's timeout.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def deno_children() -> Callable[..., set[int]]:
    """Tells which Deno processes this one, or another, has now."""
    return faults.deno_children


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    default_pool().close()
    assert faults.deno_children() == set(), "tests left sandboxes running"
