"""Checks the built pages: every link and picture within the site has a target, and every anchor exists."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collects the anchors of a page, and the addresses that it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif (tag in {"a", "link"} and name == "href") or (
                tag in {"img", "script"} and name == "src"
            ):
                self.addresses.append(value)


def broken_links(site: Path) -> list[str]:
    """Returns each broken link of a built site, as the page and the address."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text("utf-8"))
        pages[path.resolve()] = page
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its addresses are absolute
        for address in sorted(set(page.addresses)):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists() or (
                anchor and target in pages and anchor not in pages[target].anchors
            ):
                broken.append(f"{path.relative_to(site.resolve())}: {address}")
    return broken
