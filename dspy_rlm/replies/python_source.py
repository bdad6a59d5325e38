"""Questions about Python source that may be broken: does it compile, where are its strings, is it code at all.

`ast` gives the answers where it can. The host's Python may be older than the sandbox's, so newer syntax is
accepted on every version: f-strings that reuse their own quotes (PEP 701), template strings (PEP 750), type
parameters and the type statement (PEP 695), and `except` without brackets (PEP 758).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dspy_rlm.values.python_text import syntax_tree

_FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)

_IS_AS_NEW = sys.version_info >= (3, 14)

# Calls that end a run.
FINAL_CALLS = frozenset({"SUBMIT", "FINAL", "FINAL_VAR"})


class Span(NamedTuple):
    """A string literal or a comment: `text[start:end]`."""

    start: int
    end: int
    is_string: bool
    is_closed: bool
    is_formatted: bool = False


class Work:
    """A bound on the characters that are compiled while one reply is read."""

    def __init__(self, chars: int) -> None:
        self._left = 400_000 + 5 * chars

    def affords(self, chars: int) -> bool:
        """Takes so many characters from what may still be looked at; False if they are not left."""
        if self._left < chars:
            return False
        self._left -= chars
        return True

    def tree(self, code: str) -> ast.Module | None:
        """Returns the syntax tree; None if the text does not compile, or the work is used up."""
        return tree_of(code) if self.affords(len(code)) else None

    def compiles(self, code: str) -> bool:
        """Returns whether the text compiles as a cell."""
        return self.tree(code) is not None


def tree_of(code: str) -> ast.Module | None:
    """Returns the syntax tree of a cell; None if it does not compile."""
    tree = _parsed(code)
    if tree is None and not _IS_AS_NEW:
        older = _in_older_syntax(_without_formatted_strings(code))
        tree = _parsed(older) if older != code else None
    return tree


def _parsed(code: str) -> ast.Module | None:
    # Python warns of an unknown escape such as `\d`, on the host's standard error.
    code = _ESCAPE.sub(lambda match: match[0] if match[1] in _ESCAPES else f"\\{match[0]}", code)
    try:
        tree = syntax_tree(code, flags=_FLAGS)
    except _NOT_PYTHON:
        return None
    return tree if isinstance(tree, ast.Module) else None


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = frozenset("\n\\'\"abfnrtvxNuU01234567")

_OLDER = (
    (re.compile(r"^([ \t]*)type[ \t]+(\w+)(?:\[[^\[\]\n]*\])?[ \t]*=", re.MULTILINE), r"\1\2 ="),
    (
        re.compile(
            r"^([ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+\w+)\[(?:[^\[\]\n]|\[[^\[\]\n]*\])*\]",
            re.MULTILINE,
        ),
        r"\1",
    ),
    (re.compile(r"^([ \t]*except\*?[ \t]+)([^\n():]+,[^\n():]+):", re.MULTILINE), r"\1(\2):"),
)


def _in_older_syntax(code: str) -> str:
    """Returns the code with newer statements as Python 3.11 has them, to judge it only."""
    for expression, older in _OLDER:
        code = expression.sub(older, code)
    return code


def _without_formatted_strings(code: str) -> str:
    """Returns the code with an empty string in the place of each f-string."""
    parts, at = [], 0
    for span in spans(code):
        if span.is_formatted and span.is_closed:
            parts += [code[at : span.start], '""' + "\\\n" * code.count("\n", span.start, span.end)]
            at = span.end
    return "".join([*parts, code[at:]])


# The beginning of a string with its prefix, a comment, or a character that a name may not run into.
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<prefix>(?<!\w)(?:[rRbBuUfFtT]|[rR][bBfFtT]|[bBfFtT][rR])?)(?P<quotes>\"{3}|'{3}|"|')"""
)


def spans(code: str) -> Iterator[Span]:
    """Yields the strings and comments of the code in order, also of code that does not compile."""
    strings = _Strings(code)
    at = 0
    while (match := _TOKEN.search(code, at)) is not None:
        if match["comment"] is not None:
            yield Span(match.start(), match.end(), is_string=False, is_closed=True)
            at = match.end()
            continue
        is_formatted = any(letter in "fFtT" for letter in match["prefix"])
        end, is_closed = strings.end(match.end(), match["quotes"], is_formatted, len(code))
        yield Span(match.start(), end, True, is_closed, is_formatted and not strings.is_plain)
        at = end


# Nesting of f-strings in f-strings, and the longest expression in one.
_MAX_NESTING, _MAX_EXPRESSION_CHARS = 4, 4000

_STOPS = {
    (quotes, formatted): re.compile(
        r"\\.|" + re.escape(quotes) + r"|\n" + (r"|\{" if formatted else ""), re.DOTALL
    )
    for quotes in ('"', "'", '"""', "'''")
    for formatted in (True, False)
}

_IN_EXPRESSION = re.compile(
    r"""(?P<prefix>(?<!\w)(?:[rRbBuUfFtT]|[rR][bBfFtT]|[bBfFtT][rR])?)(?P<quotes>\"{3}|'{3}|"|')|[{}]"""
)


class _Strings:
    """Finds the ends of strings in a text.

    A replacement field that has no end is read once more, as plain text. The characters that are read in such
    fields are bounded; after that, all f-strings are read as plain strings.
    """

    def __init__(self, code: str) -> None:
        self._code = code
        self._left = 4 * len(code) + _MAX_EXPRESSION_CHARS
        self.is_plain = False
        """True if the last string was read as a plain one, because a field of it has no end."""

    def end(
        self, at: int, quotes: str, is_formatted: bool, limit: int, nesting: int = 0
    ) -> tuple[int, bool]:
        """Returns the end of a string whose content begins at `at`, and whether it is closed."""
        code = self._code
        if not nesting:
            self.is_plain = self._left <= 0
        stops = _STOPS[quotes, is_formatted and nesting < _MAX_NESTING and self._left > 0]
        while (match := stops.search(code, at, limit)) is not None:
            found = match[0]
            at = match.end()
            if found == quotes:
                return at, True
            if found == "\n" and len(quotes) == 1:
                return match.start(), False
            if found == "{" and code.startswith("{", at):
                at += 1
            elif found == "{":
                after = self._end_of_expression(at, limit, nesting)
                if after is None:
                    if nesting:
                        return at, False  # only the outermost string is read again, as a plain one
                    stops, self.is_plain = _STOPS[quotes, False], True
                at = after or at
        return limit, False

    def _end_of_expression(self, at: int, limit: int, nesting: int) -> int | None:
        """Returns the end of a replacement field of an f-string; None if none is found."""
        depth = 1
        limit = min(limit, at + min(_MAX_EXPRESSION_CHARS, self._left))
        while (match := _IN_EXPRESSION.search(self._code, at, limit)) is not None:
            self._left -= match.end() - at
            at = match.end()
            if match["quotes"]:
                is_formatted = any(letter in "fFtT" for letter in match["prefix"])
                end, is_closed = self.end(at, match["quotes"], is_formatted, limit, nesting + 1)
                self._left -= end - at
                at = end
                if not is_closed:
                    return None
            elif match[0] == "{":
                depth += 1
            elif match[0] == "}":
                depth -= 1
                if depth == 0:
                    return at
        self._left -= max(limit - at, 0)
        return None


_LINE_END = re.compile("\n")


def outside_strings(code: str, change: Callable[[str], str]) -> str:
    """Returns the code with a change made in all that is neither a string nor a comment."""
    parts, at = [], 0
    for span in spans(code):
        parts += [change(code[at : span.start]), code[span.start : span.end]]
        at = span.end
    return "".join([*parts, change(code[at:])])


def starts_of_lines_outside_strings(code: str) -> set[int]:
    """Returns the positions of lines that do not begin inside a string."""
    starts = {0, *(match.end() for match in _LINE_END.finditer(code))}
    for span in spans(code):
        if span.is_string and "\n" in code[span.start : span.end]:
            starts -= {
                span.start + match.end()
                for match in _LINE_END.finditer(code[span.start : span.end])
                if span.start + match.end() < span.end
            }
    return starts


_STATEMENTS = (
    ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.FunctionDef,
    ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith,
    ast.If, ast.Try, ast.Delete, ast.Match, ast.Raise, ast.Assert,
)  # fmt: skip


def does_something(tree: ast.Module) -> bool:
    """Returns whether the tree has a statement that is no bare value, such as a word or a data sample."""
    return any(
        (
            isinstance(node, _STATEMENTS)
            # A word and a colon before other words are mostly prose.
            and not (isinstance(node, ast.AnnAssign) and node.value is None)
        )
        or (
            isinstance(node, ast.Expr)
            and any(isinstance(n, ast.Call | ast.Await) for n in ast.walk(node))
        )
        for node in tree.body
    )


def final_calls(tree: ast.Module) -> bool:
    """Returns whether the cell itself calls a function that ends the run."""
    return any(_is_final_call(node) for node in ast.walk(tree))


def final_calls_are_statements(tree: ast.Module) -> bool:
    """Returns whether each such call is a statement: `12 | SUBMIT(1)` is a line of a listing."""
    calls = sum(_is_final_call(node) for node in ast.walk(tree))
    return calls == sum(
        isinstance(node, ast.Expr) and _is_final_call(node.value) for node in ast.walk(tree)
    )


def _is_final_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FINAL_CALLS
    )
