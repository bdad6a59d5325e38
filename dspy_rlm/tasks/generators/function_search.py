"""Search for a function by a description of what it does, after RepoQA's "searching needle function".

RepoQA's descriptions are written by a language model; here a description is the first paragraph of the function's own docstring, and the
context has the code without that docstring. Only functions are asked for whose description does not contain their name.
https://arxiv.org/abs/2406.06025
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.code_files import files, paths, read, text_of
from dspy_rlm.tasks.library import sources, tree_of
from dspy_rlm.tasks.task import Form, Item

FORM = Form(
    str,
    "The context is a set of Python files, each below a line with its path. One function does what the question describes; the context "
    "has its code without its docstring.",
    "the name of the function, without its class or module",
    scoring.exact_text,
    scoring.repoqa,
)

_QUESTION = "Which function does this? {description}"
_MIN_DESCRIPTION_CHARS = 50


@dataclass(frozen=True)
class Described:
    """A function of the library whose description does not name it."""

    path: str
    name: str
    description: str
    opening: str
    """The first words of the docstring as the source has them."""
    docstring: tuple[int, int]
    """The first and the last line of the docstring, from 1."""


def generate(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items, each with files of its own."""
    for at in range(n):
        own = draws.stream(at)
        wanted, chosen = _unique(own, chars)
        shown = {
            path: without_docstring(text, wanted) if _plain(path) == wanted.path else text
            for path, text in chosen.items()
        }
        question = _QUESTION.format(description=wanted.description)
        yield Item(
            f"function-search-{at}", text_of(shown), question, wanted.name, {"files": len(chosen)}
        )


def _unique(draws: Draws, chars: int) -> tuple[Described, dict[str, str]]:
    """Returns a function, and files of which only its own has this description."""
    for path in paths(draws, chars):
        candidates = described(path)
        if candidates:
            wanted = draws.choice(candidates)
            found = files(draws, chars, path)
            having = {_plain(other) for other, text in found.items() if wanted.opening in text}
            if having == {path}:
                return wanted, found
    raise AssertionError("the paths have no end")


def _plain(path: str) -> str:
    return re.sub(r"^vendored_\d+/", "", path)


def described(path: str) -> list[Described]:
    """Returns the functions of a file that can be asked for: with a plain docstring on the lines after their header."""
    lines = sources()[path].split("\n")
    found: list[Described] = []
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
            continue
        docstring, text = node.body[0], ast.get_docstring(node, clean=False)
        if text is None or "\\" in text or node.name.startswith("__"):
            continue
        header, first = lines[docstring.lineno - 2], lines[docstring.lineno - 1]
        if not header.endswith(":") or not first.strip().startswith('"""'):
            continue
        description = _description(text)
        if len(description) >= _MIN_DESCRIPTION_CHARS and not _names(description, node.name):
            span = (docstring.lineno, docstring.end_lineno or docstring.lineno)
            opening = text.strip().split("\n")[0]
            found.append(Described(path, node.name, description, opening, span))
    return [one for one in found if sum(other.opening == one.opening for other in found) == 1]


def _description(docstring: str) -> str:
    return " ".join(re.split(r"\n[ \t]*\n", docstring.strip())[0].split())


def _names(description: str, name: str) -> bool:
    """Returns True if a description has the name, or most of its words."""
    parts = [part for part in name.lower().split("_") if len(part) > 2]
    text = description.lower()
    return name.lower() in text or sum(part in text for part in parts) * 2 > len(parts)


def without_docstring(text: str, function: Described) -> str:
    """Returns the text of a file without the docstring of a function."""
    lines = text.split("\n")
    first, last = function.docstring
    return "\n".join([*lines[: first - 1], *lines[last:]])


# ---- The second way ----


@functools.cache
def index() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Returns path and name of the functions with each description: the knowledge that the task asks for.

    Reads the sources line by line, not with the parser.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for path, text in sources().items():
        lines = text.split("\n")
        for at, line in enumerate(lines):
            if definition := re.match(r"[ \t]*(?:async )?def (\w+)\(", line):
                docstring = _docstring_after(lines, at)
                found.setdefault(_description(docstring), []).append((path, definition[1]))
    return found


_MAX_HEADER_LINES = 12


def _docstring_after(lines: list[str], at: int) -> str:
    """Returns the text in triple quotes after the header of a definition, which ends with a colon; empty if there is none."""
    end = next(
        (
            n
            for n in range(at, min(at + _MAX_HEADER_LINES, len(lines)))
            if lines[n].rstrip().endswith(":")
        ),
        None,
    )
    if end is None or end + 1 >= len(lines):
        return ""
    opening = re.match(r"""[ \t]*[rR]?("{3}|'{3})(.*)""", lines[end + 1])
    if opening is None:
        return ""
    rest = "\n".join([opening[2], *lines[end + 2 : end + 200]])
    return rest.partition(opening[1])[0]


def solve(context: str, question: str) -> str:
    """Returns the answer by an index of the unchanged library, from the functions whose file is in the context."""
    here = {_plain(path) for path in read(context)}
    found = index()[question.removeprefix("Which function does this? ")]
    (name,) = {name for path, name in found if path in here}
    return name
