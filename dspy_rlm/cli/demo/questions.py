"""The questions of the demo, and their correct answers, computed on the host with `ast`.

Shares nothing with the policies except one list of words (see `modules_about`).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dspy_rlm.cli.demo.policies import speaks_of

# Name components of test modules.
TESTS = frozenset({"test", "tests", "idle_test"})

Sources = Mapping[str, str]
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A question, its form as a call of the module, and the check of its answer."""

    text: str
    signature: str
    instructions: str
    inputs: Mapping[str, str]
    right_answers: Callable[[Sources], list[Answer]]
    """Every correct answer, computed on the host; usually one."""

    truth: str
    """The method by which the correct answers were computed, in words."""


def class_places(sources: Sources, class_name: str) -> list[Answer]:
    """Returns every place where a class of this name is defined."""
    return [
        {"path": path, "line": node.lineno}
        for path, text in sources.items()
        if class_name in text and (tree := parse(text))
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == class_name
    ]


def undocumented_functions(sources: Sources, package: str) -> list[str]:
    """Returns the public functions without a docstring in a package's public modules, sorted."""
    functions = {
        f"{module}.{node.name}": node
        for path, text in sources.items()
        if PurePosixPath(path).parts[0] in (package, f"{package}.py")
        and is_public(module := module_name(path))
        and (tree := parse(text))
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node.name)
    }
    return sorted(name for name, node in functions.items() if not ast.get_docstring(node))


def modules_about(sources: Sources, subject: str) -> list[str]:
    """Returns the public modules whose docstring is about the subject by the rule-based reader, sorted."""
    docstrings = {
        module: ast.get_docstring(tree) or ""
        for path, text in sources.items()
        if is_public(module := module_name(path))
        and not TESTS.intersection(module.split("."))
        and (tree := parse(text))
    }
    return sorted(module for module, text in docstrings.items() if speaks_of(text, subject))


def module_name(path: str) -> str:
    """Returns the module of a path: `email.mime` for `email/mime/__init__.py`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def is_public(name: str) -> bool:
    """Returns True for a dotted name that can be imported and is not private."""
    return all(part.isidentifier() and not part.startswith("_") for part in name.split("."))


def parse(text: str) -> ast.Module | None:
    """Returns the syntax tree; None for invalid Python (the standard library's tests have such files)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError):
            return None


CLASS_NAME, PACKAGE, SUBJECT = "ThreadingUDPServer", "email", "data compression and archives"

QUESTIONS = (
    Question(
        f"Where is the class {CLASS_NAME} defined?",
        "sources: dict[str, str], class_name: str -> path: str, line: int",
        "Find the file that defines the class, and the line of its `class` statement. If there is no such "
        "class, give an empty path and line 0.",
        {"class_name": CLASS_NAME},
        lambda sources: class_places(sources, CLASS_NAME) or [{"path": "", "line": 0}],
        "every file that has the name, parsed with ast",
    ),
    Question(
        f"Which public functions of the package {PACKAGE} lack a docstring?",
        "sources: dict[str, str], package: str -> functions: list[str]",
        "List the functions at the top level of the package's modules that have no docstring, as "
        "module.function, sorted. Leave out what has a part in its name that begins with an underscore.",
        {"package": PACKAGE},
        lambda sources: [{"functions": undocumented_functions(sources, PACKAGE)}],
        "the package's files, parsed with ast",
    ),
    Question(
        f"Which modules deal with {SUBJECT}?",
        "sources: dict[str, str], subject: str -> modules: list[str]",
        "List the modules whose docstring says that they deal with the subject, sorted. Leave out tests, "
        "and what has a part in its name that begins with an underscore.",
        {"subject": SUBJECT},
        lambda sources: [{"modules": modules_about(sources, SUBJECT)}],
        "every docstring, read with ast and judged by the same list of words that the sub-LM has; so "
        "this checks that all of it got through, not the judgement",
    ),
)
