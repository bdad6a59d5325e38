"""The real text of the tasks: the sources of Python's standard library, and the prose of its docstrings.

They come from the archive that the sandbox itself imports from, not from the Python that runs here: it is part of this package, its hash
is pinned, and it is the same on every machine. Its license is Python's own (PSF-2.0: https://docs.python.org/3/license.html).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping

from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.task import Source
from dspy_rlm.values.python_text import syntax_tree
from sandbox_runtime.helpers import python_library

PYTHON_VERSION = "Python 3.14 (Pyodide)"

# The modules whose syntax is newer than Python 3.11, the oldest that this package runs on. They are left out everywhere, so that
# every version of Python builds the same tasks.
TOO_NEW = frozenset(
    {
        "_pyrepl/types.py",
        "_pyrepl/utils.py",
        "annotationlib.py",
        "dataclasses.py",
        "pdb.py",
        "site.py",
        "string/templatelib.py",
        "traceback.py",
        "typing.py",
    }
)

# Tables of data, not prose and not code that somebody reads; and Pyodide's own modules, which have another license.
_LEFT_OUT = (
    "encodings/",
    "html/entities.py",
    "_sysconfigdata",
    "pyodide/",
    "_pyodide/",
    "pyodide_js/",
)

# A paragraph of prose. Shorter ones are headings and stubs.
_MIN_PARAGRAPH_CHARS = 80


@functools.cache
def sources() -> Mapping[str, str]:
    """Returns the Python files of the standard library by path, in the order of their paths."""
    with zipfile.ZipFile(python_library()) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".py"))
        return {
            name: archive.read(name).decode("utf-8")
            for name in names
            if name not in TOO_NEW and not name.startswith(_LEFT_OUT)
        }


def prose(draws: Draws) -> Iterator[str]:
    """Yields paragraphs of docstrings without end, each on one line: all of a file, then of another.

    Each file comes once in a pass over the library, and the order of the files differs from pass to pass.
    """
    paths = list(sources())
    while True:
        draws.shuffle(paths)
        for path in paths:
            yield from paragraphs_of(path)


@functools.cache
def paragraphs_of(path: str) -> tuple[str, ...]:
    """Returns the paragraphs of a file's docstrings, each once and on one line."""
    found: dict[str, None] = {}
    for docstring in _docstrings(path):
        for paragraph in re.split(r"\n[ \t]*\n", docstring):
            if _is_prose(paragraph.strip()):
                found[" ".join(paragraph.split())] = None
    return tuple(found)


@functools.cache
def source_of_library() -> Source:
    """Returns the description of the library for a manifest."""
    text = "\0".join(part for file in sources().items() for part in file)
    return Source(PYTHON_VERSION, "PSF-2.0", hashlib.sha256(text.encode()).hexdigest())


@functools.lru_cache(maxsize=16)
def tree_of(path: str) -> ast.Module:
    """Returns the syntax tree of a file of the library."""
    tree: ast.Module = syntax_tree(sources()[path])
    return tree


def _docstrings(path: str) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield docstring


def _is_prose(paragraph: str) -> bool:
    """Returns True for sentences. Doctests, tables and lists of options are none."""
    if len(paragraph) < _MIN_PARAGRAPH_CHARS or ">>>" in paragraph:
        return False
    letters = sum(char.isalpha() or char == " " for char in paragraph)
    return letters > 0.85 * len(paragraph) and paragraph.rstrip().endswith(".")
