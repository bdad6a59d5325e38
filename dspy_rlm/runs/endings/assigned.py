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

from dspy_rlm.prompts.styles import ANSWER
from dspy_rlm.runs.stoppable import InterruptibleSandbox
from sandbox_runtime import CellResult, Sandbox, SandboxError, Submitted

# The time for reading all of them: a value of a cell's own class may take any.
READ_SECONDS = 5.0


def read_variables(
    sandbox: Sandbox, names: Sequence[str], outputs: Sequence[str], *, has_draft: bool = False
) -> dict[str, Any]:
    """Returns the values of the variables that exist and can leave the sandbox, by name.

    Args:
        sandbox: The sandbox of the run.
        names: The names of the variables: some of the outputs.
        outputs: The names of all outputs.
        has_draft: True if the REPL has the paper's `answer`, a dict whose `content` is the answer so far.
    """
    end = time.monotonic() + READ_SECONDS
    found: dict[str, Any] = {}
    # One by one: a value that cannot leave the sandbox refuses all of a SUBMIT, or even ends the sandbox.
    with contextlib.suppress(SandboxError, CodeInterpreterError):
        for name in dict.fromkeys([*names, *([ANSWER] if has_draft else [])]):
            found |= _submitted(name, _run(sandbox, reading_code(outputs, name), end))
    return _with_draft(found, outputs) if has_draft else found


def reading_code(outputs: Sequence[str], variable: str) -> str:
    """Returns the code of a cell that submits a variable as the first output, in a list, which is empty if there is none.

    Args:
        outputs: The names of all outputs, because SUBMIT takes no fewer.
        variable: The name of the variable.
    """
    # A cell may have hidden any builtin, such as `globals`; but an output may be called like one.
    value = f"globals()[{variable!r}]" if hasattr(builtins, variable) else variable
    empty = ", ".join(f"{name!r}: []" for name in outputs)
    return f"""\
_outputs = {{{empty}}}
try:
    _outputs[{outputs[0]!r}] = [{value}]
except:
    pass
SUBMIT(**_outputs)"""


def _with_draft(found: dict[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
    """Returns the values with the content of the paper's `answer`, where it has one."""
    draft = found.get(ANSWER)
    if not isinstance(draft, dict) or set(draft) != {"content", "ready"}:
        return found
    found = {name: value for name, value in found.items() if name != ANSWER}
    content = draft["content"]
    if isinstance(content, dict) and content and set(content) <= set(outputs):
        return {**found, **content}
    return found if content in ("", None) else {**found, outputs[0]: content}


def _run(sandbox: Sandbox, code: str, end: float) -> CellResult:
    if isinstance(sandbox, InterruptibleSandbox):
        return sandbox.run_last(code, end)
    return sandbox.run_cell(code)  # the caller's own interpreter, which nothing else may stop


def _submitted(name: str, result: CellResult) -> dict[str, Any]:
    """Returns the value of such a SUBMIT under the name of its variable; none if it was refused."""
    values = list(result.outputs.values()) if isinstance(result, Submitted) else []
    one = [value[0] for value in values if isinstance(value, (list, tuple)) and len(value) == 1]
    return {name: one[0]} if len(one) == 1 else {}
