"""Secrets of the host's environment do not reach a cell by way of an exception's text."""

from __future__ import annotations

import pytest

from sandbox_runtime import open_session, without_secrets

KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", KEY)
    monkeypatch.setenv("DATABASE_PASSWORD", "correct horse")
    monkeypatch.setenv("A_TOKEN", "x")
    monkeypatch.setenv("HARMLESS", "0123456789")


def test_values_of_such_variables():
    """Wherever they stand; short values and other variables are left."""
    text = f"401 for {KEY}: https://me:correct horse@host/x?y=0123456789"

    assert without_secrets(text) == "401 for [secret]: https://me:[secret]@host/x?y=0123456789"


def test_what_else_is_secret():
    """Values that the caller knows."""
    assert without_secrets("a hidden word", ["hidden word", None]) == "a [secret]"


@pytest.mark.parametrize(
    "call", ["tool()", "await tool.aio()", "tool.batched([])", "tool.batched([1])"]
)
def test_an_error_of_a_tool(call):
    """The cell sees what failed, without the key."""

    def tool(*_):
        raise PermissionError(f"no entry with {KEY}")

    with open_session(tools={"tool": tool}) as session:
        result = session.run_cell(
            f"try:\n    print({call})\nexcept Exception as error:\n    print(repr(error))"
        )

    assert KEY not in str(result)
    assert call == "tool.batched([])" or "no entry with [secret]" in result.output
