"""A hostile program as data: its cells, and the required outcome of the last one. Knows no sandbox."""

from __future__ import annotations

import dataclasses
from typing import Any

# The output of a program that obtained something forbidden. Its source has the word in two parts, so that a
# traceback that shows the line does not contain it.
ESCAPED = "ESCAPED"
ESCAPED_SOURCE = '"ESC" + "APED"'

# The mark in everything that a program forges.
FORGED = "FORGED"

# JavaScript's globals as `js`: by import, or by making a function of a text. Where both are refused, that
# is what has held; what the program does with them is tried in `escapes.py`.
JAVASCRIPT = """
reached()
try:
    import js
except ImportError:
    from pyodide.ffi import to_js
    js = to_js([1]).constructor.constructor("return globalThis")()
"""


@dataclasses.dataclass(frozen=True)
class Program:
    """Cells that try to get something forbidden, or make typical mistakes of models.

    In the cells `@SECRET@` stands for a file of the host, `@FOLDER@` for its folder, `@VARIABLE@` for a
    name in the host's environment, `@PORT@` for a port that somebody listens at, `@HOST@` for the id of
    the host's process. There are the variable `kept`, `[1, 2, 3]`, the tools `echo(value)` and
    `lookup(key, times=1)`, and `SUBMIT(answer, count)`.

    `reached()` stands on a line of its own where the program makes its attempt; see `marks.py`.

    Whatever it is, it must not show a secret, touch a file, reach the port, call a tool with `FORGED`,
    submit `FORGED`, or print `ESCAPED`; and the session must be sound afterwards.
    """

    name: str
    cells: tuple[str, ...]

    ends: tuple[str, ...] = ("completed", "failed")
    """The permitted ends of the last cell, of completed, failed and submitted."""

    shows: str = ""
    """Text that the last cell has to show, if any; the lines of a traceback do not count."""

    submits: Any = None
    """The answer that must arrive if the last cell submits; None: any."""

    calls: int | None = None
    """The most calls of tools that there may be."""

    destroys: bool = False
    """It is meant to destroy its own interpreter: the session may be lost, and must heal."""

    wrecks: bool = False
    """It writes over its interpreter's memory, which nobody can see from inside: the session may be
    unsound until it is closed, but it must answer."""

    ours: str = ""
    """The reason why only our sandbox can run it; empty if any can."""

    silent: str = ""
    """The reason why it has no `reached()`, since nothing that it prints can come out; empty if it has one."""


def program(
    name: str,
    *cells: str,
    ends: tuple[str, ...] | None = None,
    shows: str = "",
    submits: Any = None,
    calls: int | None = None,
    destroys: bool = False,
    wrecks: bool = False,
    ours: str = "",
    silent: str = "",
) -> Program:
    """Returns a program of these cells, in order.

    If nothing else is said, its last cell may complete or fail; if it has to show something, complete.
    """
    stripped = tuple(cell.strip("\n") for cell in cells)
    if ends is None:
        ends = ("completed",) if shows else ("completed", "failed")
    return Program(name, stripped, ends, shows, submits, calls, destroys, wrecks, ours, silent)
