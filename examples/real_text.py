"""Real text for the examples, from the Python that runs them: its library, its manual, and the packages beside it.

Examples run on it as they are. With texts of your own they do not need this module.
"""

from __future__ import annotations

import ast
import itertools
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

LIBRARY = Path(sysconfig.get_path("stdlib"))


def python_files(*packages: str) -> dict[str, str]:
    """Returns the source files of packages of the library by path; all of the library without arguments."""
    roots = [LIBRARY / name for name in packages] or [LIBRARY]
    found = {}
    for path in sorted(itertools.chain.from_iterable(root.rglob("*.py") for root in roots)):
        name = path.relative_to(LIBRARY).as_posix()
        if not re.search(r"(^|/)(site-packages|test|tests|idle_test|lib2to3)/", name):
            found[name] = path.read_text("utf-8", errors="replace")
    return found


def manual() -> dict[str, str]:
    """Returns the sections of the language's reference manual by name."""
    return dict(topics)


def lines_of_text() -> Iterator[str]:
    """Yields lines of real text, millions of words: the manual, the library, and the packages that are installed."""
    for text in topics.values():
        yield from text.splitlines()
    packages = Path(sysconfig.get_path("purelib"))
    library = (path for path in sorted(LIBRARY.rglob("*.py")) if "site-packages" not in path.parts)
    for path in itertools.chain(library, sorted(packages.rglob("*.py"))):
        yield from path.read_text("utf-8", errors="replace").splitlines()


def docstrings(*packages: str) -> list[str]:
    """Returns the first sentences of the library's functions, each once: some thousand short items."""
    found: dict[str, None] = {}
    for text in python_files(*packages).values():
        for node in _nodes(text):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
                doc := ast.get_docstring(node)
            ):
                first = " ".join(doc.strip().split("\n\n")[0].split())
                if 20 <= len(first) <= 120 and first[0].isupper():
                    found[first] = None
    return list(found)


def raised_messages(*packages: str) -> list[tuple[str, str]]:
    """Returns the errors that the library raises: pairs of an exception's name and its message."""
    found: dict[tuple[str, str], None] = {}
    for text in python_files(*packages).values():
        for node in _nodes(text):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
                message = call.args[0]
                if (
                    isinstance(message, ast.Constant)
                    and isinstance(message.value, str)
                    and len(message.value) > 15
                ):
                    found[call.func.id, " ".join(message.value.split())] = None
    return list(found)


def remarks(*packages: str) -> list[str]:
    """Returns comments of the library's authors that have an opinion: each a short review of a piece of code."""
    opinion = re.compile(
        r"\b(ugly|slow|fast|hack|nice|sadly|unfortunately|safe|broken|efficient|simple|clever|wrong|better|expensive|careful|should|annoying|obscure|painful|stupid|bad|good)\b",
        re.I,
    )
    found: dict[str, None] = {}
    for text in python_files(*packages).values():
        for block in re.findall(r"(?:^[ \t]*#[^\n]*\n)+", text, re.MULTILINE):
            words = " ".join(re.sub(r"^[ \t]*#+ ?", "", block, flags=re.MULTILINE).split())
            if 40 <= len(words) <= 400 and opinion.search(words):
                found[words] = None
    return list(found)


def _nodes(text: str) -> Iterator[ast.AST]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in the files
        try:
            yield from ast.walk(ast.parse(text))
        except SyntaxError:  # some files of the library are no Python on purpose
            return
