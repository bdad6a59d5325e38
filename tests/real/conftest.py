"""The server of the real model, for the tests behind it and behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.real_model.server import RealServer


@pytest.fixture(scope="module")
def model() -> Iterator[RealServer]:
    """The server, with two slots of 2,048 tokens."""
    with RealServer(tokens=2_048, slots=2) as server:
        yield server
