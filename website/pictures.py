"""The pictures of the site that contributors see: `python -m website && python -m website.pictures`.

Needs Playwright and a Chromium.
"""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

from benchmarks.browser import browser
from website.__main__ import ROOT, STAGE

# Name, page, colour scheme, width, height.
PICTURES = (
    ("site-light", "recipes/long-video", "light", 1100, 700),
    ("site-dark", "api/dspy_rlm", "dark", 1100, 700),
    ("site-phone", "one-run", "dark", 390, 700),
)


def take(folder: Path) -> None:
    """Takes all pictures of the built site."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=STAGE / "site")
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        browser() as chromium,
    ):
        if chromium is None:
            raise SystemExit("There is no browser: pip install playwright, and install Chromium.")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, page, scheme, width, height in PICTURES:
            view = chromium.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            view.goto(f"http://127.0.0.1:{server.server_port}/{page}.html")
            view.wait_for_timeout(500)
            view.screenshot(path=str(folder / f"{name}.png"))
            view.close()
        server.shutdown()


if __name__ == "__main__":
    take(ROOT / "docs" / "pictures")
