"""The builtins of cells that are not Python's, or that mean something else in a REPL that no person sits at."""

from __future__ import annotations

import io
from typing import Any, NoReturn

from sandbox_runtime.guest.namespace.shown_help import Help


class EmptyInput(io.TextIOBase):
    """An empty `sys.stdin`. Each cell gets a new one, so it has less to initialize than a `TextIOWrapper`."""

    encoding = "utf-8"
    errors = "strict"

    @property
    def buffer(self) -> io.BytesIO:
        """The same input as bytes."""
        return io.BytesIO()

    def readable(self) -> bool:
        """Returns True."""
        return True

    def read(self, _size: int | None = -1, /) -> str:
        """Returns an empty text."""
        return self.readline()

    def readline(self, _size: int = -1, /) -> str:  # type: ignore[override]
        """Returns an empty text."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return ""

    def reconfigure(self, **_settings: object) -> None:
        """Has no effect."""


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
    "help": Help(),
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
