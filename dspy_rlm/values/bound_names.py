"""Finds the names that code binds at its top level."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dspy_rlm.values.python_text import syntax_tree


def bound_names(code: str) -> list[str]:
    """Returns the names that the top level of a cell binds, in the order of the code; none if it is not Python."""
    try:
        body = syntax_tree(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return list(dict.fromkeys(name for statement in body for name in _bound(statement)))


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yields the names that a statement binds, also in blocks below it, but not in functions and classes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    if isinstance(statement, ast.Assign) and _is_itself(statement):
        return
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif not isinstance(
            node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        ):
            stack += reversed(list(ast.iter_child_nodes(node)))


def _is_itself(statement: ast.Assign) -> bool:
    """Returns whether a statement is `x = x`."""
    value, targets = statement.value, statement.targets
    return isinstance(value, ast.Name) and all(
        isinstance(target, ast.Name) and target.id == value.id for target in targets
    )
