"""What tests of sessions share: running a cell, and looking at processes."""

from __future__ import annotations

from pathlib import Path

from sandbox_runtime import Completed, Session
from sandbox_runtime.engine import assets

PROJECT = Path(assets.__file__).parents[2]


def output(session: Session, code: str) -> str:
    """What a cell showed that ran to its end, without the last line feed."""
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output.removesuffix("\n")


def is_alive(pid: int) -> bool:
    """True while the process lives; one that nobody has waited for yet is dead (Linux only)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
