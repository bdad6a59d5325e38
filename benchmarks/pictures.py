"""The pictures of the viewer in the docs: a nested run with failures, light and dark, and on a phone.

python -m benchmarks.pictures
python -m benchmarks.pictures --run JOURNAL --to FOLDER

Needs Playwright and a Chromium: see `browser.py`. Without `--run`, the run is recorded anew, with scripted policies as the LMs.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal

from benchmarks.browser import browser, wait_until_ready
from benchmarks.viewer import write
from benchmarks.viewer_runs import record_nested

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of the page."""

    name: str
    place: str
    """The permalink that it shows."""

    scheme: Literal["light", "dark"] = "light"
    width: int = 1280
    height: int = 860


PICTURES = (
    Picture("viewer-light", "#r0-s4"),
    Picture("viewer-dark", "#r0-s3/calls", "dark"),
    Picture("viewer-phone", "#r0-s4", width=390, height=844),
)


def take(chromium: Any, page: Path, picture: Picture, folder: Path) -> Path:
    """Takes a picture of a page; returns its file."""
    view = chromium.new_page(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme=picture.scheme,
        reduced_motion="reduce",
    )
    view.goto(f"{page.absolute().as_uri()}{picture.place}")
    wait_until_ready(view)
    view.wait_for_timeout(300)  # texts are inflated after the first frame
    path = folder / f"{picture.name}.png"
    view.screenshot(path=str(path))
    view.close()
    return path


def main() -> None:
    """Takes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="the journal of another run")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder of the pictures")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        if chromium is None:
            parser.error("there is no browser: pip install playwright, and install Chromium")
        journal = options.run or record_nested(Path(folder) / "incidents.jsonl")
        page = Path(folder) / "page.html"
        write(journal, page)
        for picture in PICTURES:
            print(take(chromium, page, picture, options.to))


if __name__ == "__main__":
    main()
