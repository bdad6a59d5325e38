"""Helpers for tests of sessions: running a cell, and inspecting processes."""

from __future__ import annotations

from pathlib import Path

from sandbox_runtime import Completed, Session
from sandbox_runtime.engine import assets

PROJECT = Path(assets.__file__).parents[2]


def output(session: Session, code: str) -> str:
    """Runs a cell that must complete, and returns its output without the last line feed."""
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output.removesuffix("\n")


def is_alive(pid: int) -> bool:
    """True while the process runs; one that has ended but is not reaped counts as dead (Linux only)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
