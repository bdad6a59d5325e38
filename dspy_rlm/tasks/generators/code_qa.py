"""Questions about the code of the standard library, with answers from its syntax trees.

LongBench v2 asks multiple-choice questions about repositories, which people wrote; these are questions that a parser can answer, so that
the truth is certain. Each names its file.
https://arxiv.org/abs/2412.15204
"""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Iterator

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.code_files import files, paths, read, text_of
from dspy_rlm.tasks.library import tree_of
from dspy_rlm.tasks.task import Form, Item

FORM = Form(
    int,
    "The context is a set of Python files, each below a line with its path. Answer the question about the code.",
    "a whole number",
    scoring.same_number,
    scoring.ruler_all,
)

_LINE = "In {path}, on which line of the file does the definition of the function '{name}' begin (the line with 'def', counted from 1)?"
_METHODS = "In {path}, how many different methods does the class '{name}' define itself, directly in its body?"
_PARAMETERS = "In {path}, how many parameters does the function '{name}' have?"

_Question = tuple[str, int]


def generate(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items, each with files of its own."""
    for at in range(n):
        own = draws.stream(at)
        path, asked = next(
            (path, asked) for path in paths(own, chars) if (asked := _questions(path))
        )
        question, answer = own.choice(asked)
        found = files(own, chars, path)
        counts = {"files": len(found)}
        yield Item(f"code-qa-{at}", text_of(found), question, answer, counts)


def _questions(path: str) -> list[_Question]:
    """Returns the questions about a file whose names are unique in it."""
    body = tree_of(path).body
    names = [node.name for node in ast.walk(ast.Module(body, [])) if isinstance(node, _NAMED)]
    found: list[_Question] = []
    for node in body:
        if not isinstance(node, _NAMED) or names.count(node.name) > 1 or node.decorator_list:
            continue
        if isinstance(node, ast.ClassDef):
            methods = {part.name for part in node.body if isinstance(part, _FUNCTIONS)}
            plain = all(
                isinstance(part, (*_FUNCTIONS, ast.Assign, ast.Expr, ast.Pass))
                for part in node.body
            )
            if len(methods) >= 2 and plain:
                found.append((_METHODS.format(path=path, name=node.name), len(methods)))
            continue
        found.append((_LINE.format(path=path, name=node.name), node.lineno))
        parameters = node.args
        count = len(parameters.posonlyargs + parameters.args + parameters.kwonlyargs)
        count += (parameters.vararg is not None) + (parameters.kwarg is not None)
        if count >= 2:
            found.append((_PARAMETERS.format(path=path, name=node.name), count))
    return found


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMED = (*_FUNCTIONS, ast.ClassDef)


def solve(context: str, question: str) -> int:
    """Returns the answer from the compiler's symbol tables instead of the syntax tree."""
    (path,) = re.findall(r"^In (\S+),", question)
    (name,) = re.findall(r"'(\w+)'", question.replace("'def'", ""))
    table = symtable.symtable(read(context)[path], path, "exec")
    (found,) = [child for child in table.get_children() if child.get_name() == name]
    if "on which line" in question:
        return found.get_lineno()
    if isinstance(found, symtable.Function):
        return len(found.get_parameters())
    # The compiler also has tables for lambdas and generators, under names that no function can or does have.
    children = {child.get_name() for child in found.get_children()}
    return len(children - {"lambda", "genexpr", "listcomp", "setcomp", "dictcomp"})
