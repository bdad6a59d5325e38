"""The fenced blocks of the Markdown pages, and the marks before those that the docs tests do not run.

A block of a program is run by the tests, in the order of its page, unless an HTML comment before it says why not:

    <!-- not run: a fragment, `search` is your own -->

A page whose blocks have a test of their own says so near its top, with the languages of these blocks:

    <!-- run by tests/cli/test_docs_cli.py: console -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *PROJECT.glob("*.md"),
        *PROJECT.glob("docs/**/*.md"),
        *PROJECT.glob("website/api/*.md"),
        PROJECT / "benchmarks" / "README.md",
        PROJECT / "notebooks" / "README.md",
    ]
)

PROGRAMS = frozenset({"python", "console", "bash"})
DATA = frozenset(
    {"text", "json", "jsonl", "toml", "yaml", "ini", "csv", "html", "mermaid", "markdown", "diff"}
)

_BLOCK = re.compile(
    r"(?:^(?P<indent> *)<!-- not run: (?P<reason>[^\n]+?) -->\n+)?"
    r"^(?P<space> *)(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=space)(?P=fence) *$",
    re.DOTALL | re.MULTILINE,
)
_PAGE_MARK = re.compile(
    r"^<!-- run by (?P<test>[\w/]+\.py)(?:: (?P<languages>[\w, ]+))? -->$", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    reason: str
    """The reason for which the tests do not run it; empty if they do."""

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{self.page.relative_to(PROJECT).as_posix()}:{self.line}"


@dataclass(frozen=True)
class PageMark:
    """The test that runs the blocks of a page in these languages; in all, if there are none."""

    test: Path
    languages: frozenset[str]

    def covers(self, block: Block) -> bool:
        """Returns whether that test runs the block."""
        return not self.languages or block.language in self.languages


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page in their order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start("fence")) + 1,
            language=match["language"].strip(),
            code=match["code"],
            reason=match["reason"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def page_marks(page: Path) -> list[PageMark]:
    """Returns the tests of its own that a page names."""
    return [
        PageMark(PROJECT / match["test"], frozenset(re.findall(r"\w+", match["languages"] or "")))
        for match in _PAGE_MARK.finditer(page.read_text("utf-8"))
    ]


def own_blocks(page: Path, language: str) -> list[Block]:
    """Returns the blocks of a page in a language that the docs tests have to run."""
    marks = page_marks(page)
    return [
        block
        for block in blocks(page)
        if block.language == language
        and not block.reason
        and not any(mark.covers(block) for mark in marks)
    ]


def promises(code: str) -> list[str]:
    """Returns the comments behind `print(...)`: what each of them prints."""
    return re.findall(r"^\s*print\(.*\)\s+# (.*)$", code, re.MULTILINE)


def commands(code: str) -> list[tuple[str, str]]:
    """Returns the commands of a console block, each with the output below it."""
    parts = re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def fits(output: str, promised: str) -> bool:
    """Returns whether an output is the promised one, in which `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in promised.strip().split("..."))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None
