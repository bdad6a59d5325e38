"""The text of a page as the site needs it: the repository's Markdown, with links and blocks adapted.

Pages are written for code hosts (GitHub's Markdown), and stay readable there. The differences that matter are here:
links between files become links between pages, and a list needs an empty line before it.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Callable, Mapping

# A fence and everything up to its end, or one line of prose.
_PARTS = re.compile(
    r"^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^(?P=fence)[ \t]*$|^[^\n]*$", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
# A folder of the repository is no page: its name stays.
_FOLDER = re.compile(r"\[([^\]\n]+)\]\((?!https?:)[^)\s#]+/\)")
_LIST_ITEM = re.compile(r"^(?:[-*+]|\d{1,3}\.) ")
_MARK = re.compile(r"^<!-- not run: (?P<text>.*?) -->$")


def adapt(
    text: str, source: str, page: str, pages: Mapping[str, str], attach: Callable[[str], str | None]
) -> str:
    """Returns the text of the page `page`, whose source is the file `source` of the repository.

    Args:
        text: The Markdown of the file.
        source: The path of the file in the repository.
        page: The path of the page in the site.
        pages: The pages of the site, by the path of their source.
        attach: Returns the path in the site of another file of the repository, and copies it there; None if there is none.
    """

    def link(match: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        target = pages.get(file) or attach(file)
        if target is None:
            return match[0]  # the build reports it
        way = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return f"{match[1]}{way}{match[3] or ''})"

    lines: list[str] = []
    for part in _PARTS.finditer(text):
        block = part[0]
        if part["fence"]:
            lines.append(block)
            continue
        if _LIST_ITEM.match(block) and lines and lines[-1].strip() and _starts_list(lines):
            lines.append("")
        mark = _MARK.match(block)
        lines.append(_caption(mark) if mark else _LINK.sub(link, _FOLDER.sub(r"\1", block)))
    return "\n".join(lines).rstrip("\n") + "\n"


def _starts_list(lines: list[str]) -> bool:
    """Returns whether the lines end with a paragraph that is not part of a list."""
    for line in reversed(lines):
        if not line.strip():
            return True
        if _LIST_ITEM.match(line):
            return False
    return True


def _caption(mark: re.Match[str]) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(mark["text"]))
    return f'<p class="block-note">Not run by the tests: {text}.</p>\n'


def with_notes(text: str) -> str:
    """Returns the text with the marks of blocks that are not run as notes for the reader."""
    return "\n".join(
        _caption(mark) if (mark := _MARK.match(line)) else line for line in text.splitlines()
    )


def with_code(text: str, programs: Mapping[str, str]) -> str:
    """Returns the page with the whole text of the programs that it names, folded, at its end."""
    folded = [
        f'??? example "{name}"\n\n'
        + "\n".join(f"    {line}".rstrip() for line in f"```python\n{code}```".splitlines())
        for name, code in programs.items()
    ]
    return "\n\n".join([text.rstrip("\n"), *folded]) + "\n"
