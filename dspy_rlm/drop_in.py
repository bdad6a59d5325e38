"""`dspy.RLM` made ours, for programs that cannot be edited."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from dspy_rlm.dspy_internals.rlm_class import DSPyRLM, replace_rlm
from dspy_rlm.rlm import RLM


def install() -> None:
    """Makes `dspy.RLM` this package's RLM, in this process, for what is imported from now on.

    What has said `from dspy import RLM` before keeps DSPy's.
    """
    replace_rlm(RLM)


def uninstall() -> None:
    """Gives DSPy its own RLM back. What was made in between stays as it is."""
    replace_rlm(DSPyRLM)


def run_program(program: str, arguments: Sequence[str] = (), *, as_module: bool = False) -> None:
    """Runs a Python program as `python program` does, or `python -m program`, with ours installed.

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
    """The part of a traceback that is the program's: what comes after `runpy` has begun it."""
    trace = error.__traceback__
    while trace is not None and not _is_runpy(trace):
        trace = trace.tb_next
    while trace is not None and _is_runpy(trace):
        trace = trace.tb_next
    return trace


def _is_runpy(trace: TracebackType) -> bool:
    return trace.tb_frame.f_globals.get("__name__") == "runpy"
