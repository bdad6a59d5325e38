"""The builtins of cells that are not Python's, or that mean something else in a REPL that no person sits at."""

from __future__ import annotations

import io
from typing import Any, NoReturn


def no_input() -> io.TextIOWrapper:
    """Returns an empty `sys.stdin`."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def _input(prompt: object = "") -> str:
    """Replaces `input`."""
    raise RuntimeError("input() is not available: nobody sits at this REPL")


class _Exit:
    """Replaces `exit` and `quit`, which close `sys.stdin` as well."""

    def __repr__(self) -> str:
        return "Call SUBMIT(...) to finish."

    def __call__(self, code: object = None) -> NoReturn:
        """Ends the cell."""
        raise SystemExit(code)


_exit = _Exit()

OWN_BUILTINS: dict[str, Any] = {
    "input": _input,
    "exit": _exit,
    "quit": _exit,
    # JSON's words, which models write in code. A variable of the cell hides them, as any builtin.
    "true": True,
    "false": False,
    "null": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
}


def end_cell(code: object = None) -> NoReturn:
    """Replaces `os._exit` and `os.abort`, which would end the interpreter with all its variables."""
    raise SystemExit(code)
