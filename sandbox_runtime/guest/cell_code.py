"""A cell as a REPL treats it: all its statements run, and the value of a last expression is shown."""

from __future__ import annotations

import types
from ast import Expr, Expression, PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from typing import Any

from sandbox_runtime.guest.output import Output, Stream


def compile_cell(code: str, filename: str) -> list[types.CodeType]:
    """Compiles a cell: its statements, and separately a last expression whose value is shown."""
    flags = PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(code, filename, "exec", flags | PyCF_ONLY_AST, dont_inherit=True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], Expr) else None
    parts = [compile(tree, filename, "exec", flags, dont_inherit=True)] if tree.body else []
    if last is not None:
        expression = Expression(last.value)
        parts.append(compile(expression, filename, "eval", flags, dont_inherit=True))
    return parts


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
