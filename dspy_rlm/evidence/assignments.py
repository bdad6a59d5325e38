"""The cells in which the outputs of a SUBMIT were assigned, by their code alone.

An estimate on the safe side: a statement that may change a name counts as an assignment of it, and everything that the
statement reads counts as a source.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from dspy_rlm.replies.python_source import FINAL_CALLS, tree_of

# A longer cell holds data, or is hostile.
MAX_CODE_CHARS = 100_000


def cells_of(codes: Sequence[str], outputs: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Returns for each output the numbers of the cells that it came from, from 1.

    Args:
        codes: The code of all steps; the last one submitted.
        outputs: The names of the outputs, in order.
    """
    last = _tree(codes[-1]) if codes else None
    if last is None:
        return {name: (len(codes),) if codes else () for name in outputs}
    body, submitted = _until_submit(last)
    sources = _sources(submitted, outputs) if submitted is not None else {}
    whole = _names(last, ast.Load)
    trees: dict[int, Sequence[ast.stmt]] = {len(codes): body}
    found: dict[str, tuple[int, ...]] = {}
    for output in outputs:
        needed = set(sources.get(output, whole))
        cells = {len(codes)}
        for number in range(len(codes), 0, -1):
            code = codes[number - 1]
            if number < len(codes) and not any(name in code for name in needed):
                continue
            if number not in trees:
                tree = _tree(code)
                trees[number] = tree.body if tree is not None else ()
            if _trace(trees[number], needed):
                cells.add(number)
        found[output] = tuple(sorted(cells))
    return found


def _tree(code: str) -> ast.Module | None:
    return tree_of(code) if len(code) <= MAX_CODE_CHARS else None


def _until_submit(tree: ast.Module) -> tuple[list[ast.stmt], ast.Call | None]:
    """Returns the statements up to the one with the last SUBMIT, and its call."""
    for at in range(len(tree.body) - 1, -1, -1):
        calls = [
            node
            for node in ast.walk(tree.body[at])
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in FINAL_CALLS
        ]
        if calls:
            alone = isinstance(tree.body[at], ast.Expr)
            return tree.body[: at if alone else at + 1], calls[-1]
    return tree.body, None


def _sources(call: ast.Call, outputs: Sequence[str]) -> dict[str, set[str]]:
    """Returns the names that each output of a SUBMIT is computed from."""
    parts: dict[str, ast.expr] = dict(zip(outputs, call.args, strict=False))
    parts |= {one.arg: one.value for one in call.keywords if one.arg}
    only = call.args[0] if len(call.args) == 1 and not call.keywords else None
    if isinstance(only, ast.Dict) and len(outputs) > 1:
        keyed = zip(only.keys, only.values, strict=True)
        parts |= {
            key.value: value
            for key, value in keyed
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
    elif only is not None and len(outputs) > 1:
        parts = dict.fromkeys(outputs, only)  # one dict of all outputs
    shared = [one.value for one in call.keywords if one.arg is None]
    names: dict[str, set[str]] = {}
    for output in outputs:
        of_output = [*([parts[output]] if output in parts else []), *shared]
        if of_output:
            names[output] = {name for part in of_output for name in _names(part, ast.Load)}
            names[output] |= {
                part.value
                for part in of_output
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and _is_var(call)
            }
    return names


def _is_var(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "FINAL_VAR"


def _trace(body: Collection[ast.stmt], needed: set[str]) -> bool:
    """Adds to the needed names those that they are computed from in a cell; returns whether it assigns any of them."""
    assigns = False
    for statement in reversed(list(body)):
        changed = set(_changed(statement)) - _local(statement)
        if not changed & needed:
            continue
        assigns = True
        if isinstance(statement, ast.Assign) and all(
            isinstance(target, ast.Name) for target in statement.targets
        ):
            needed -= changed  # replaced as a whole: earlier values do not matter
        needed |= _names(statement, ast.Load)
    return assigns


def _names(node: ast.AST, kind: type[ast.expr_context]) -> set[str]:
    """Returns the names of the REPL that a part of the code reads, or assigns."""
    names = {
        one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, kind)
    }
    return names - _local(node)


def _local(node: ast.AST) -> set[str]:
    """Returns the names that exist only inside of a comprehension or a function."""
    names: set[str] = set()
    for one in ast.walk(node):
        match one:
            case ast.comprehension(target=target):
                names |= _stored(target)
            case ast.Lambda(args=args):
                names |= {
                    argument.arg for argument in ast.walk(args) if isinstance(argument, ast.arg)
                }
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names |= _stored(one)
                names |= {
                    argument.arg for argument in ast.walk(one) if isinstance(argument, ast.arg)
                }
                names -= {
                    name
                    for inner in ast.walk(one)
                    if isinstance(inner, ast.Global)
                    for name in inner.names
                }
    return names


def _stored(node: ast.AST) -> set[str]:
    return {
        one.id
        for one in ast.walk(node)
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
    }


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Yields the names that a statement assigns, defines, or may change by an item, an attribute or a method."""
    for node in ast.walk(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0]
            case ast.Subscript(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
                yield from _root(node)
            case ast.Call(func=ast.Attribute(value=value)) if isinstance(statement, _COMPOUND):
                yield from _root(value)


# Statements in which a method may be called for what it changes, unlike in an assignment.
_COMPOUND = (ast.Expr, ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try)


def _root(node: ast.AST) -> Iterator[str]:
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id
