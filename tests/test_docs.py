"""The Markdown pages: links have targets, code compiles, and the first examples of two pages run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PAGES = sorted(
    [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), PROJECT / "benchmarks/README.md"]
)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """Returns the text of a page without its code blocks."""
    return FENCED.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as code hosts derive them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(page: Path) -> list[str]:
    """Returns the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """A link within the repository names a file that exists and, behind `#`, one of its headings."""
    broken = []
    for link in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", prose(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_are_python(page):
    """Every Python block compiles, with `await` and `async with` at its top level allowed."""
    for example in examples(page):
        compile(example, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(
    "name",
    [
        "batch",
        "compare",
        "context",
        "inputs",
        "journal",
        "live",
        "mcp",
        "objects",
        "resume",
        "reuse",
        "sessions",
        "tasks",
        "tracing",
        "values",
    ],
)
def test_the_first_example_prints_what_its_comment_says(name, capsys):
    """The page's first example runs unchanged, in a real sandbox."""
    example = examples(PROJECT / "docs" / f"{name}.md")[0]
    (promised,) = re.findall(r"^\s*print\(.*#\s(.*)$", example, re.MULTILINE)

    exec(compile(example, name, "exec"), {})

    assert capsys.readouterr().out.strip() == promised
