"""Shared fixtures of the security suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox_runtime import Pool
from sandbox_runtime.open import ready_engine

from .builds import EscapedEngine, shared_escape
from .surroundings import Surroundings


@pytest.fixture(scope="module")
def around(tmp_path_factory) -> Iterator[Surroundings]:
    """The surroundings with the secrets, created before any sandbox."""
    with Surroundings(tmp_path_factory.mktemp("host")) as surroundings:
        yield surroundings


@pytest.fixture(scope="session")
def escaped_engine(tmp_path_factory) -> EscapedEngine:
    """The build that hides nothing, one for all workers."""
    return shared_escape(ready_engine(), tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def pool(around, request) -> Iterator[Pool]:
    """A pool of sessions with the module's own `LIMITS`, opened in the background."""
    pool = Pool(2, limits=request.module.LIMITS)
    yield pool
    pool.close()
