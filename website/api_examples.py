"""The examples of the API reference: a section for each public name, in the Markdown files of `api/`.

A block of an example is run by the tests, after the blocks of its page's introduction, unless a mark before it says why not:
`<!-- not run: needs a package registry -->`. What it prints is in comments behind its `print`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "api"


@dataclass(frozen=True)
class Examples:
    """The examples of one page of the reference."""

    path: Path
    introduction: str
    """The Markdown before the first example, without the title."""

    sections: Mapping[str, str]
    """The Markdown of each example, by public name with its module."""


def read_examples(page: str) -> Examples:
    """Returns the examples of a page of the reference, such as `api/dspy_rlm.md`."""
    path = FOLDER / Path(page).name
    introduction, *parts = ("\n" + path.read_text("utf-8")).split("\n## ")
    sections = {name.strip(): body.strip() for name, _, body in (p.partition("\n") for p in parts)}
    if len(sections) != len(parts):
        raise ValueError(f"{path} has two sections of one name.")
    body = introduction.strip().partition("\n")[2]
    shown = [line for line in body.splitlines() if not line.startswith("<!-- run by ")]
    return Examples(path, "\n".join(shown).strip(), sections)
