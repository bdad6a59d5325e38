"""Sessions for the tests: real Deno, real Pyodide, closed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sandbox_runtime import Session, open_session


@pytest.fixture
def opened() -> Iterator[Callable[..., Session]]:
    """Opens sessions as `open_session` does, and closes them after the test."""
    sessions: list[Session] = []

    def start(**settings) -> Session:
        sessions.append(open_session(**settings))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()
