"""Shared fixtures of the optimizer tests: the task of `benchmarks.counting`, played by scripted policies."""

from __future__ import annotations

from collections.abc import Iterator

import dspy
import pytest

from benchmarks.counting import make_server
from dspy_rlm.testing import PolicyServer


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    """A server for the root LM and the proposers."""
    with make_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _configured(server: PolicyServer) -> Iterator[None]:
    root = server.lm("root")
    with dspy.context(lm=root, adapter=dspy.ChatAdapter(), num_threads=1, trace=[]):
        yield
