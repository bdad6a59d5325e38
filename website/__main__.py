"""Builds the documentation site.

python -m website                 # builds build/website/site; warnings and broken links are errors
python -m website --serve 8000    # builds it, and serves it on 127.0.0.1

Needs `pip install --group docs`. The package itself need not be installed: the reference is read from its source.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from website.links import broken_links
from website.navigation import problems
from website.reference import PAGES, write_pages
from website.staging import adapt, with_code

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "website" / "zensical.toml"
STAGE = ROOT / "build" / "website"
# Programs that a page names are shown at its end.
_PROGRAM = re.compile(r"\]\((?:\.\./)+(examples/[\w/]+\.py)\)")
_WARNING = re.compile(r"^\s*(?:warning|error)\b", re.IGNORECASE | re.MULTILINE)


class SiteError(Exception):
    """The site cannot be built as it is; the message has one problem a line."""


def read_config() -> dict[str, Any]:
    """Returns the configuration of the site."""
    return tomllib.loads(CONFIG.read_text("utf-8"))


def source_pages(config: dict[str, Any]) -> dict[str, str]:
    """Returns the pages that are files of the repository: the path in the site by the path of the file."""
    own = {
        path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
        for path in sorted((ROOT / "docs").rglob("*.md"))
    }
    return own | {source: page for page, source in config["extra"]["pages"].items()}


def check_navigation(config: dict[str, Any]) -> list[str]:
    """Returns the problems of the navigation: pages without a place, entries without a page."""
    return problems(config["project"]["nav"], [*source_pages(config).values(), *PAGES])


def stage(config: dict[str, Any], folder: Path) -> None:
    """Writes the pages, the pictures and the configuration to a folder, as Zensical reads them."""
    shutil.rmtree(folder, ignore_errors=True)
    docs = folder / "docs"
    pages = source_pages(config)
    targets = pages | config["extra"]["same"]

    def attach(file: str) -> str | None:
        path = ROOT / file
        if not path.is_file() or not path.resolve().is_relative_to(ROOT):
            return None
        page = file.removeprefix("docs/") if file.startswith("docs/") else f"files/{file}"
        (docs / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, docs / page)
        return page

    for source, page in pages.items():
        text = (ROOT / source).read_text("utf-8")
        programs = {
            name: (ROOT / name).read_text("utf-8") for name in dict.fromkeys(_PROGRAM.findall(text))
        }
        text = adapt(text, source, page, targets, attach)
        _write(docs / page, with_code(text, programs) if programs else text)
    for page, text in write_pages(ROOT).items():
        _write(docs / page, text)
    for name in ("site.css", "site.js"):
        shutil.copyfile(ROOT / "website" / name, docs / name)
    own = CONFIG.read_text("utf-8").partition("# Not an option of Zensical")[0]
    _write(
        folder / "zensical.toml", own.replace('paths = ["../.."]', f'paths = ["{ROOT.as_posix()}"]')
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def build(folder: Path = STAGE) -> Path:
    """Builds the site into a folder; returns the folder of its HTML.

    Raises:
        SiteError: A page has no place in the navigation, Zensical warns of something, or a link has no target.
    """
    config = read_config()
    if found := check_navigation(config):
        raise SiteError("\n".join(found))
    stage(config, folder)
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--clean",
        "--strict",
        "-f",
        "zensical.toml",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode or _WARNING.search(output):
        raise SiteError(output.partition("Traceback (most recent call last)")[0].strip())
    if broken := broken_links(folder / "site"):
        raise SiteError("\n".join(f"broken link: {link}" for link in broken))
    return folder / "site"


def main() -> int:
    """Builds the site, and serves it if wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=STAGE, help="the folder to build in")
    parser.add_argument(
        "--serve", type=int, metavar="PORT", help="serve the site on 127.0.0.1 until Ctrl-C"
    )
    options = parser.parse_args()
    try:
        site = build(options.to.resolve())
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{site}: {len(list(site.rglob('*.html')))} pages")
    if options.serve is not None:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
        with http.server.ThreadingHTTPServer(("127.0.0.1", options.serve), handler) as server:
            print(f"http://127.0.0.1:{server.server_port}/index.html")
            server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
