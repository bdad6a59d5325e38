"""A real browser for the tests of the viewer's page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium.

    One for each module: Playwright has an event loop of its own in this thread, and would be in the way of other modules' tests.
    """
    api = pytest.importorskip(
        "playwright.sync_api", reason='Playwright is not installed: pip install -e ".[dev]"'
    )
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("No Chromium is installed, such as Debian's package `chromium`.")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()


class Opened:
    """A page in the browser, with all that it must not do."""

    def __init__(self, browser: Any, place: Path | str, **options: Any) -> None:
        """Opens a file or an address in a window of its own. `options` are Playwright's for a context."""
        self.address = place if isinstance(place, str) else place.as_uri()
        self.misdeeds: list[str] = []
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.misdeeds.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.misdeeds.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.on("popup", lambda popup: self.misdeeds.append(f"popup: {popup.url}"))

    def _dialog(self, dialog: Any) -> None:
        self.misdeeds.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        own = request.url.split("#")[0]
        follows = self.address.startswith("http:") and own.startswith(f"{self.address}changes?")
        if own != self.address and not follows:
            self.misdeeds.append(f"request: {request.url}")

    def go(self, fragment: str = "") -> Any:
        """Opens a permalink and returns Playwright's page."""
        address = f"{self.address}#{fragment}" if fragment else self.address
        if self.page.url.split("#")[0] == self.address:
            self.page.evaluate("hash => { location.hash = hash }", f"#{fragment}")
        else:
            self.page.goto(address)
            self.page.wait_for_selector("#app:not([hidden])")
        self.page.wait_for_selector("main#main .view")
        self.page.wait_for_selector("[aria-busy]", state="detached")
        return self.page


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens pages; afterwards none may have complained, asked for anything, or run what a model wrote."""
    pages: list[Opened] = []

    def open_page(place: Path | str, **options: Any) -> Opened:
        pages.append(Opened(browser, place, **options))
        return pages[-1]

    yield open_page
    misdeeds = [misdeed for page in pages for misdeed in page.misdeeds]
    for page in pages:
        page.context.close()
    assert misdeeds == []
