"""The names of the harness that a program reaches for: one that does not exist would make its attempt empty.

`reached()` shows that a statement ran, not that it had an aim: to set an attribute that nothing reads always succeeds.
Knows no sandbox.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator

from .program import Program

_PACKAGE = "sandbox_runtime"


@dataclasses.dataclass(frozen=True)
class Aim:
    """A module of the harness, and the attributes that a program follows from it."""

    module: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.module.rpartition(".")[2], *self.path))


def aims_of(program: Program) -> set[Aim]:
    """Returns the aims that a program writes as dotted names, in code and not in strings."""
    aim_by_name: dict[str, Aim] = {}
    trees = [ast.parse(cell) for cell in program.cells if _parses(cell)]
    for tree in trees:
        aim_by_name |= _imported(tree)
    found: set[Aim] = set()
    for tree in trees:
        # Breadth first: names are bound before the bodies that use them are visited.
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                aim = _resolved(node.value, aim_by_name)
                if aim is not None and isinstance(node.targets[0], ast.Name):
                    aim_by_name[node.targets[0].id] = aim
        found |= {
            aim
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and (aim := _resolved(node, aim_by_name)) is not None
        }
    return found


def _parses(cell: str) -> bool:
    try:
        ast.parse(cell)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # that is its attempt
        return False
    return True


def _imported(tree: ast.Module) -> dict[str, Aim]:
    return dict(pair for node in ast.walk(tree) for pair in _imported_by(node))


def _imported_by(node: ast.AST) -> Iterator[tuple[str, Aim]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith(_PACKAGE) and alias.asname:
                yield alias.asname, Aim(alias.name)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGE):
        for alias in node.names:
            yield alias.asname or alias.name, Aim(node.module or "", (alias.name,))


def _resolved(node: ast.expr, aim_by_name: dict[str, Aim]) -> Aim | None:
    match node:
        case ast.Name(id=name):
            return aim_by_name.get(name)
        case ast.Attribute(value=value, attr=name):
            aim = _resolved(value, aim_by_name)
            return None if aim is None else Aim(aim.module, (*aim.path, name))
        case ast.Subscript(
            value=ast.Attribute(attr="modules"), slice=ast.Constant(value=str(module))
        ) if module.startswith(_PACKAGE):
            return Aim(module)
    return None
