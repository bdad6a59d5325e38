"""The documentation site in a real browser, each night: no message on the console, no foreign host, search, axe-core."""

from __future__ import annotations

import functools
import http.server
import importlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import PROJECT

from website.reference import PAGES

# Builds the site and opens all of its pages.
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
WITH_AXE = ("index", "one-run", "coming-from", "security", "api/dspy_rlm", "reference")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Warnings and broken links fail it."""
    for name in ("zensical", "mkdocstrings"):
        pytest.importorskip(name, reason="The site's tools are missing: pip install --group docs")
    folder = tmp_path_factory.mktemp("website")
    command = [sys.executable, "-m", "website", "--to", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The address of the served site."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("No Chromium is installed, such as Debian's package `chromium`.")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def opened(chromium: Any, address: str, page: str, **options: Any) -> tuple[Any, list[str]]:
    """Opens a page; returns it with a list that gets all that it should not do."""
    misdeeds: list[str] = []
    view = chromium.new_page(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
    view.on("console", lambda message: misdeeds.append(f"console: {message.text}"))
    view.on("pageerror", lambda error: misdeeds.append(f"error: {error}"))
    view.on("requestfailed", lambda request: misdeeds.append(f"failed: {request.url}"))
    view.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "data:", "blob:"))
            else misdeeds.append(f"request: {request.url}")
        ),
    )
    view.goto(f"{address}/{page}.html", wait_until="load")
    view.wait_for_timeout(150)  # scripts that run after that
    return view, misdeeds


@pytest.mark.parametrize("page", PAGES)
def test_every_public_name_is_documented(site: Path, page: str):
    """Each public name has an anchor, with its documentation and an example before the next one."""
    text = (site / page).with_suffix(".html").read_text("utf-8")
    entries = {part.partition('"')[0]: part for part in text.split('<span id="')[1:]}
    lacking = [
        f"{module.name}.{name}"
        for module in PAGES[page][1]
        for name in importlib.import_module(module.name).__all__
        if not all(
            one in entries.get(f"{module.name}.{name}", "") for one in ("doc-heading", "Example:")
        )
    ]
    assert lacking == []


def test_the_constructor_of_an_rlm_is_documented(site: Path):
    """The parameters of a constructor that a class inherits are on its page, with their units."""
    assert "US dollars for all LMs of a run together" in (site / "api" / "dspy_rlm.html").read_text(
        "utf-8"
    )


def test_no_page_complains(site: Path, address: str, chromium: Any):
    """Every page opens at both widths without a message, a request elsewhere, or a page that scrolls sideways."""
    complaints = {}
    for path in sorted(site.rglob("*.html")):
        page = path.relative_to(site).with_suffix("").as_posix()
        for size in (DESKTOP, PHONE):
            view, misdeeds = opened(chromium, address, page, viewport=size)
            if view.evaluate("document.documentElement.scrollWidth > innerWidth"):
                misdeeds.append("it scrolls sideways")
            view.close()
            if misdeeds:
                complaints[page, size["width"]] = misdeeds

    assert complaints == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", WITH_AXE)
def test_axe_finds_nothing_serious(address: str, chromium: Any, page: str, scheme: str):
    """The rules of axe-core that it calls serious or critical hold."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    view, _ = opened(chromium, address, page, color_scheme=scheme)
    found = [
        f"{violation['id']}: {violation['nodes'][0]['html'][:200]} ({len(violation['nodes'])})"
        for violation in axe.run(view).response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
    view.close()
    assert found == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_search_finds_a_page(address: str, chromium: Any, size: dict[str, int]):
    """A word of one page leads to it."""
    view, misdeeds = opened(chromium, address, "index", viewport=size)
    view.locator(".md-search__button, label.md-header__button[for='__search']").filter(
        visible=True
    ).first.click()
    view.keyboard.type("max_llm_calls", delay=20)
    hit = view.locator(
        "a[href*='sub-calls'], a[href*='reference'], a[href*='troubleshooting']"
    ).filter(visible=True)
    hit.first.wait_for(timeout=15_000)
    assert misdeeds == []
    view.close()
