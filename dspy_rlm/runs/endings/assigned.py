"""Reads the outputs that cells have assigned but not submitted: variables that are called like them.

The idea is that of `FINAL_VAR` in the RLM paper (https://arxiv.org/abs/2512.24601). The values cross as those of a SUBMIT do.
"""

from __future__ import annotations

import builtins
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from dspy import CodeInterpreterError

from dspy_rlm.runs.stoppable import InterruptibleSandbox
from sandbox_runtime import CellResult, Sandbox, SandboxError, Submitted

# The time for reading all of them: a value of a cell's own class may take any.
READ_SECONDS = 5.0


def read_variables(sandbox: Sandbox, names: Sequence[str]) -> dict[str, Any]:
    """Returns the values of the variables that exist and can leave the sandbox, by name."""
    end = time.monotonic() + READ_SECONDS
    found: dict[str, Any] = {}
    # One by one: a value that cannot leave the sandbox refuses all of a SUBMIT, or even ends the sandbox.
    with contextlib.suppress(SandboxError, CodeInterpreterError):
        for name in names:
            found |= _submitted(_run(sandbox, reading_code(names, name), end))
    return found


def reading_code(names: Sequence[str], wanted: str) -> str:
    """Returns the code of a cell that submits a variable, in a list, which is empty if there is none.

    Args:
        names: The names of all outputs, because SUBMIT takes no fewer.
        wanted: The name of the variable.
    """
    # A cell may have hidden any builtin, such as `globals`; but an output may be called like one.
    value = f"globals()[{wanted!r}]" if hasattr(builtins, wanted) else wanted
    empty = ", ".join(f"{name!r}: []" for name in names)
    return f"""\
_outputs = {{{empty}}}
try:
    _outputs[{wanted!r}] = [{value}]
except:
    pass
SUBMIT(**_outputs)"""


def _run(sandbox: Sandbox, code: str, end: float) -> CellResult:
    if isinstance(sandbox, InterruptibleSandbox):
        return sandbox.run_last(code, end)
    return sandbox.run_cell(code)  # the caller's own interpreter, which nothing else may stop


def _submitted(result: CellResult) -> dict[str, Any]:
    """Returns the values of such a SUBMIT; none if it was refused."""
    if not isinstance(result, Submitted):
        return {}
    return {
        name: value[0]
        for name, value in result.outputs.items()
        if isinstance(value, (list, tuple)) and len(value) == 1
    }
