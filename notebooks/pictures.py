"""Draws the picture of the viewer in notebook 6, from the run of that notebook: `python -m notebooks.pictures`.

Needs Playwright and a Chromium, as `benchmarks.pictures` does.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from benchmarks.browser import browser
from benchmarks.pictures import Picture, take

HERE = Path(__file__).parent


def main() -> None:
    """Runs the notebook as a program, and takes a picture of its page."""
    names = runpy.run_path(str(HERE / "06_a_run_that_fails.py"))
    with browser() as chromium:
        if chromium is None:
            sys.exit("there is no browser: pip install playwright, and install Chromium")
        picture = Picture("viewer_failed_step", "#r0-s3", width=1180, height=640)
        sys.stdout.write(f"{take(chromium, names['page'], picture, HERE / 'pictures')}\n")


if __name__ == "__main__":
    main()
