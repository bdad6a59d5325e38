"""Parses Python in hostile texts: code, types and literals, in linear time.

Every use of Python's own parser on the text of a model, a cell or a server is here, because the parser has two quadratic
corners: it normalizes names (NFKC), which sorts each run of combining marks by insertion, and it builds sets and dicts of literals,
whose numbers can be chosen to collide.
"""

from __future__ import annotations

import ast
import threading
import unicodedata
from typing import Any

from sandbox_runtime.helpers import check_keys

# Unicode's own bound for a run of marks in a stream: https://unicode.org/reports/tr15/#Stream_Safe_Text_Format.
MAX_MARKS = 30

# Characters that are no marks, but become one by NFKC.
_LIKE_MARKS = frozenset("\u0f73\u0f75\u0f81\uff9e\uff9f")
_FIRST_MARK = "\u0300"

# CPython 3.11 counts the depth of its parser for all threads together, so a parse that another thread, or a finalizer,
# interrupts may raise SystemError: https://github.com/python/cpython/issues/106905. The lock is reentrant because of finalizers;
# code of others parses without it, so a parse is tried again.
_parsing = threading.RLock()
_PARSES = 5


def check_marks(text: str) -> None:
    """Raises `SyntaxError` for a run of more than `MAX_MARKS` combining marks: normalizing it takes quadratic time."""
    if text.isascii():
        return
    run = 0
    for char in text:
        if char < _FIRST_MARK or not (unicodedata.combining(char) or char in _LIKE_MARKS):
            run = 0
            continue
        run += 1
        if run > MAX_MARKS:
            raise SyntaxError(f"more than {MAX_MARKS} combining marks in a row")


def syntax_tree(text: str, mode: str = "exec", flags: int = ast.PyCF_ONLY_AST) -> Any:
    """Returns the syntax tree of Python code.

    Raises:
        SyntaxError: It is not Python.
        ValueError: It has NUL characters.
        RecursionError: It is nested too deeply.
        MemoryError: The same.
    """
    check_marks(text)
    for tries_left in reversed(range(_PARSES)):
        try:
            with _parsing:
                return compile(text, "<text>", mode, flags, dont_inherit=True)
        except SystemError:
            if not tries_left:
                raise
    raise AssertionError("the loop ends with a result or an exception")


def check_literal(text: str) -> None:
    """Raises `ValueError` if evaluating the text as a literal would build a set or dict of colliding keys.

    Raises the errors of `syntax_tree` if it is not Python.
    """
    if "{" in text:
        _check_keys_in(syntax_tree(text.lstrip(" \t"), "eval"))
    else:
        check_marks(text)


def literal(text: str) -> Any:
    """Evaluates a literal, as `ast.literal_eval` does.

    Raises:
        ValueError: It is not a literal, or its keys collide.
        TypeError: A key cannot be hashed.

    Raises the errors of `syntax_tree` as well.
    """
    return literal_of(syntax_tree(text.lstrip(" \t"), "eval"))


def literal_of(tree: ast.AST) -> Any:
    """Evaluates the tree of a literal. Raises `ValueError` and `TypeError` as `literal` does."""
    _check_keys_in(tree)
    return ast.literal_eval(tree)


def _check_keys_in(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Set):
            check_keys([ast.literal_eval(part) for part in node.elts])
        elif isinstance(node, ast.Dict):
            check_keys([ast.literal_eval(key) for key in node.keys if key is not None])
