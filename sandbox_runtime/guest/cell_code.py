"""A cell as a REPL treats it: all its statements run, and the value of a last expression is shown."""

from __future__ import annotations

import types
import warnings
from ast import Expr, Expression, PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from typing import Any

from sandbox_runtime.guest.output import Output, Stream

_FLAGS = PyCF_ALLOW_TOP_LEVEL_AWAIT

# A line that begins so continues an earlier one, or has no code. A text that is the end of the cell is in all others.
_NO_STATEMENT = ("", "\n", " ", "\t", "\f", "#", ")", "]", "}")

# Frames that are looked at for the line of a call. A deeper recursion has no line.
MAX_FRAMES = 300


def compile_cell(code: str, filename: str) -> list[types.CodeType]:
    """Compiles a cell: its statements, and separately a last expression whose value is shown.

    A warning about the cell is no error, though an earlier cell may have made errors of them.
    """
    names = vars(warnings)
    filters = names["filters"]
    if all(action != "error" for action, *_ in filters):
        return _compiled(code, filename)
    names["filters"] = [
        ("default" if action == "error" else action, *others) for action, *others in filters
    ]
    try:
        return _compiled(code, filename)
    finally:
        names["filters"] = filters


def _compiled(code: str, filename: str) -> list[types.CodeType]:
    return _compiled_by_lines(code, filename) or _compiled_as_tree(code, filename)


def _compiled_as_tree(code: str, filename: str) -> list[types.CodeType]:
    tree = compile(code, filename, "exec", _FLAGS | PyCF_ONLY_AST, dont_inherit=True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], Expr) else None
    parts = [compile(tree, filename, "exec", _FLAGS, dont_inherit=True)] if tree.body else []
    if last is not None:
        expression = Expression(last.value)
        parts.append(compile(expression, filename, "eval", _FLAGS, dont_inherit=True))
    return parts


def _compiled_by_lines(code: str, filename: str) -> list[types.CodeType]:
    """Compiles a cell whose last expression begins at the start of a line; returns nothing if this is no such cell.

    A tree of Python objects takes half of the time of compiling, and nothing else here needs it. If both the lines
    before the expression and the expression itself are whole programs, the cell is one after the other: a statement
    that began before the line would leave the first part unfinished.
    """
    start = _last_line(code)
    before = code[:start]
    if "\r" in code or before.endswith("\\\n"):
        return []
    try:
        lines = "\n" * before.count("\n")
        parts = [compile(lines + code[start:], filename, "eval", _FLAGS, dont_inherit=True)]
        if start:
            parts.insert(0, compile(before, filename, "exec", _FLAGS, dont_inherit=True))
    except Exception:  # noqa: BLE001 - compiling the tree raises what is wrong with the cell, if anything is
        return []
    return parts


def _last_line(code: str) -> int:
    """Returns where the last line begins that is not indented and has code."""
    end = len(code)
    while True:
        start = code.rfind("\n", 0, end) + 1
        if start == 0 or code[start : start + 1] not in _NO_STATEMENT:
            return start
        end = start - 1


def line_of_cell(frame: types.FrameType | None, tool: str) -> int:
    """Returns the line of the running cell that a call comes from; 0 if it is not known.

    The innermost one, as in a traceback, of the cell that runs: not that of a function which an earlier cell has defined.

    Args:
        frame: The frame of the caller.
        tool: The name of the tool. Calls of the harness itself, whose names have a dot, are not looked at: they are many.
    """
    if "." in tool:
        return 0
    lines: dict[str, int] = {}
    cell = ""
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        name = frame.f_code.co_filename
        if name[:6] == "<cell ":
            cell = name
            lines.setdefault(name, frame.f_lineno or 0)
        frame = frame.f_back
    return lines.get(cell, 0)


def write_value(value: Any, stream: Stream, output: Output, limit: int) -> None:
    """Writes a value as a REPL does. A text or bytes far over the limit is truncated before it is copied."""
    if type(value) in (str, bytes) and len(value) > 2 * limit:
        opening = len(repr(value[:0])) - 1
        stream.write(repr(value[:limit])[:-1])
        stream.flush()
        output.omit(len(value) - 2 * limit)
        stream.write(f"{repr(value[-limit:])[opening:]}\n")
    else:
        stream.write(repr(value) + "\n")
