"""The navigation of the site: every page has exactly one place in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def entries(nav: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Returns the title and the page of each entry, whatever section it is in."""
    for item in nav:
        for title, target in item.items():
            if isinstance(target, str):
                yield title, target
            else:
                yield from entries(target)


def problems(nav: Iterable[Mapping[str, Any]], pages: Iterable[str]) -> list[str]:
    """Returns a sentence for each page that has no place or several, and for each entry without a page."""
    counts, known = Counter(page for _, page in entries(nav)), set(pages)
    return [
        *(
            f"{page} is in no section: add it to nav in website/zensical.toml"
            for page in sorted(known - counts.keys())
        ),
        *(f"nav names {page}, which does not exist" for page in sorted(counts.keys() - known)),
        *(f"nav names {page} {count} times" for page, count in sorted(counts.items()) if count > 1),
    ]
