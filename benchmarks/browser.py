"""A headless Chromium for pages: how long one takes to open, and what it looks like.

Needs Playwright (`pip install playwright`), and a Chromium: that of the system if there is one, else Playwright's own.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The page is ready when its script has taken the place of the outline.
_READY = "() => !document.getElementById('outline') && !document.getElementById('app').hidden"
_SECONDS = 60


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Starts a browser; yields None if there is none."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        yield None
        return
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            # Root, as in a container, has no sandbox; the pages are our own.
            started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error:
            yield None
            return
        try:
            yield started
        finally:
            started.close()


def wait_until_ready(page: Any) -> None:
    """Waits until a page is shown by its script."""
    page.wait_for_function(_READY, timeout=_SECONDS * 1000)


def open_page(path: Path) -> dict[str, float] | None:
    """Opens a page; returns the seconds until it is shown, and those to scroll to its end. None without a browser."""
    with browser() as chromium:
        if chromium is None:
            return None
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        page.goto(path.absolute().as_uri(), wait_until="commit")
        wait_until_ready(page)
        opened = time.perf_counter() - began
        began = time.perf_counter()
        page.keyboard.press("End")
        page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        return {"opened": opened, "scrolled": time.perf_counter() - began}
