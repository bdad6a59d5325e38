"""The Markdown pages: links have targets, every block is run or says why not, and what is run prints what the page says."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from doc_blocks import (
    DATA,
    PAGES,
    PROGRAMS,
    PROJECT,
    blocks,
    commands,
    fits,
    own_blocks,
    page_marks,
    promises,
)

FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)

# The others take longer than their share of a push.
EACH_PUSH = {
    *(
        "batch",
        "compare",
        "index",
        "tasks",
        "context",
        "inputs",
        "journal",
        "live",
        "mcp",
        "objects",
        "resume",
        "reuse",
        "sessions",
        "tracing",
        "values",
    ),
    "one-run",
}


def page_name(page: Path) -> str:
    """Returns the id of a page's tests."""
    return page.relative_to(PROJECT).as_posix()


def pages_with(language: str) -> list[object]:
    """Returns the pages with blocks to run; those that are not for each push are nightly."""
    return [
        pytest.param(
            page, id=page_name(page), marks=() if page.stem in EACH_PUSH else pytest.mark.nightly
        )
        for page in PAGES
        if own_blocks(page, language)
    ]


def prose(page: Path) -> str:
    """Returns the text of a page without its code blocks."""
    return FENCED.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as code hosts derive them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    """A link within the repository names a file that exists and, behind `#`, one of its headings."""
    broken = []
    for link in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", prose(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_says_what_it_is(page):
    """A block names its language, and a program that is not run says why not, in more than a word."""
    for block in blocks(page):
        assert block.language in PROGRAMS | DATA, f"{block.place}: no known language"
        assert not block.reason or len(block.reason.split()) >= 3, f"{block.place}: no reason"
    for mark in page_marks(page):
        tested = mark.test.read_text("utf-8")
        names = (page.stem, page.stem.replace("-", "_"))  # the program of a recipe has its name
        assert any(name in tested for name in names), f"{mark.test} does not mention {page}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_program_is_run_or_marked(page):
    """A block without a mark is one that these tests can run: Python, or commands of this project."""
    for language in PROGRAMS:
        for block in own_blocks(page, language):
            unknown = [
                command
                for command, _ in commands(block.code)
                if not command.startswith(("python examples/", "dspy-rlm --"))
            ]
            runnable = language == "python" or (commands(block.code) and not unknown)
            assert runnable, f"{block.place}: write `<!-- not run: why -->` above the block"


def test_an_unmarked_block_is_found(tmp_path):
    """The rules apply: a program without a mark counts as one to run, one with a mark does not."""
    page = tmp_path / "page.md"
    page.write_text("```python\nx\n```\n\n<!-- not run: needs a model -->\n```python\ny\n```\n")
    assert [block.code for block in own_blocks(page, "python")] == ["x\n"]
    page.write_text("<!-- run by tests/test_docs.py: console -->\n```bash\nx\n```\n")
    assert [block.code for block in own_blocks(page, "bash")] == ["x\n"]
    page.write_text("<!-- run by tests/test_docs.py: bash -->\n```bash\nx\n```\n")
    assert own_blocks(page, "bash") == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_examples_are_python(page):
    """Every Python block compiles, with `await` and `async with` at its top level allowed."""
    for block in blocks(page):
        if block.language == "python":
            compile(block.code, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_data_can_be_read(page):
    """A block of JSON, TOML or settings is what it says it is."""
    for block in blocks(page):
        match block.language:
            case "json":
                json.loads(block.code)
            case "toml":
                tomllib.loads(block.code)
            case "ini":
                configparser.ConfigParser(interpolation=None, strict=False).read_string(block.code)


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_examples_print_what_their_comments_say(page, capsys):
    """The page's examples run unchanged, one after the other, in a real sandbox."""
    names: dict[str, object] = {}
    promised: list[str] = []
    for block in own_blocks(page, "python"):
        exec(compile(block.code, block.place, "exec", dont_inherit=True), names)
        promised += promises(block.code)

    printed = capsys.readouterr().out
    assert fits(printed, "\n".join(promised)) or not promised, printed


@pytest.mark.parametrize("page", pages_with("console"))
def test_the_commands_print_what_the_page_says(page, tmp_path):
    """The page's commands run in an empty folder; `...` stands for any output."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DSPY_RLM_")
    }
    environment["PYTHONPATH"] = os.fspath(PROJECT)
    for block in own_blocks(page, "console"):
        for command, promised in commands(block.code):
            program, *arguments = shlex.split(command)
            if program == "python":
                words = [sys.executable, os.fspath(PROJECT / arguments[0]), *arguments[1:]]
            else:
                words = [sys.executable, "-m", "dspy_rlm", *arguments]
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block.place}: {command}\n{done.stderr}"
            assert fits(done.stdout, promised), f"{block.place}: {command}\n{done.stdout}"
