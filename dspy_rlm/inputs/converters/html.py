"""HTML to Markdown, by Beautiful Soup and markdownify. Nothing is fetched, no script runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# Elements that a browser does not show as text.
_UNSEEN = ("script", "style", "template", "noscript", "svg", "iframe", "object", "embed", "canvas")

_BLANK_LINES = re.compile(r"\n{3,}")


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields one part."""
    with open(path, "rb") as file:  # noqa: PTH123
        yield {"part": "", "text": markdown(file.read())}


def markdown(html: bytes | str, *, headings: bool = True) -> str:
    """Returns the text of a page, with its headings, lists, tables and links as Markdown."""
    import warnings

    from bs4 import BeautifulSoup, Comment
    from markdownify import MarkdownConverter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        soup = BeautifulSoup(html, "lxml")
    for element in soup(_UNSEEN):
        element.decompose()
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    # The data of an image is no text.
    for image in soup.find_all("img", src=re.compile("^data:")):
        image["src"] = ""
    title = soup.title.get_text(" ", strip=True) if soup.title and headings else ""
    body = soup.body or soup
    if soup.title:
        soup.title.decompose()
    text = MarkdownConverter(
        heading_style="ATX",
        table_infer_header=True,
        bullets="-",
        escape_misc=False,
        escape_asterisks=False,
        escape_underscores=False,
    ).convert_soup(body)
    text = _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip(
        "\n"
    )
    return f"# {title}\n\n{text}" if title and title not in text[:1000] else text
