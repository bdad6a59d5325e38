"""Replaces `dspy.RLM` with ours, for programs that cannot be edited."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from dspy_rlm.dspy_internals.rlm_class import DSPyRLM, replace_rlm
from dspy_rlm.rlm import RLM


def install() -> None:
    """Replaces `dspy.RLM` with this package's RLM, in this process, for later imports.

    A module that has run `from dspy import RLM` before keeps DSPy's.
    """
    replace_rlm(RLM)


def uninstall() -> None:
    """Restores DSPy's own RLM. Instances that were created in between stay as they are."""
    replace_rlm(DSPyRLM)


def run_program(program: str, arguments: Sequence[str] = (), *, as_module: bool = False) -> None:
    """Runs a Python program as `python program` or `python -m program` does, with our RLM installed.

    Raises:
        OSError: The file cannot be read.
        ImportError: There is no such module.
    """
    install()
    sys.argv = [program, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path.cwd() if as_module else Path(program).resolve().parent)
    if as_module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


def program_frames(error: BaseException) -> TracebackType | None:
    """Returns the program's part of a traceback: the frames below those of `runpy`."""
    trace = error.__traceback__
    while trace is not None and not _is_runpy(trace):
        trace = trace.tb_next
    while trace is not None and _is_runpy(trace):
        trace = trace.tb_next
    return trace


def _is_runpy(trace: TracebackType) -> bool:
    return trace.tb_frame.f_globals.get("__name__") == "runpy"
