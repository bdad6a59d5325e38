"""`dspy-rlm view`: a recorded run as a page, written to a file, or served during the run."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import webbrowser
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from dspy_rlm.cli.exit_codes import COMPLETE
from dspy_rlm.cli.journals import find_run
from dspy_rlm.cli.recorded.summaries import is_running
from dspy_rlm.errors import InputError
from dspy_rlm.journal import load
from dspy_rlm.journal.places import SUFFIX
from dspy_rlm.terminal.escaping import log_plainly, show, show_exactly
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.bundle import bundle
from dspy_rlm.viewer.journals import document_of, journal_view
from dspy_rlm.viewer.live import Following, LiveServer
from dspy_rlm.viewer.page import parts
from dspy_rlm.viewer.texts import Texts


def view_run(options: argparse.Namespace) -> int:
    """Writes the page of a run, or serves it until Ctrl-C."""
    log_plainly()
    if options.live and options.html is not None:
        raise InputError("--live serves a page and --html writes one: use one of them.")
    names = [options.run, *([options.compare] if options.compare else [])]
    journals = [find_run(name, options.journals) for name in names]
    source = Journals(journals, redact=options.redact, live=options.live)
    return _serve(source, options) if options.live else _write(source, options)


class Journals:
    """The journals of a page, as the viewer follows them."""

    def __init__(self, paths: Sequence[Path], *, redact: bool = False, live: bool = False) -> None:
        self.texts = Texts(redact=redact)
        self._paths = paths
        self._live = live

    def state(self) -> object:
        """Returns a value that differs whenever a journal has changed."""
        found = [(path.stat(), is_running(path)) for path in self._paths]
        return [(stat.st_size, stat.st_mtime_ns, running) for stat, running in found]

    def document(self) -> doc.ViewDocument:
        """Returns the document as it is now."""
        views = []
        for path in self._paths:
            running = is_running(path)
            views.append(journal_view(load(path), self.texts, is_running=running))
        return document_of(views, self.texts, written_by=_writer(), live=self._live)


def _writer() -> str:
    try:
        return f"dspy-rlm {version('dspy-rlm')}"
    except PackageNotFoundError:
        return "dspy-rlm"


def _write(source: Journals, options: argparse.Namespace) -> int:
    document = source.document()
    if options.html == Path("-"):
        for part in parts(document, source.texts, bundle()):
            sys.stdout.write(part)
        return COMPLETE
    path: Path = options.html or _usual_path(document, options.redact)
    if path.suffix == SUFFIX:
        raise InputError(f"{path} is the name of a journal. Name the page, such as run.html.")
    _write_page(path, document, source.texts, is_ours=options.html is None)
    show_exactly(str(path), sys.stdout)
    _open(path.absolute().as_uri(), options)
    return COMPLETE


def page_of(journal: Path) -> Path:
    """Writes the page of a run to the user's cache folder, and returns its path.

    Raises:
        InputError: It cannot be written.
        ViewerError: The viewer cannot be built.
    """
    source = Journals([journal])
    document = source.document()
    path = _usual_path(document, redact=False)
    _write_page(path, document, source.texts, is_ours=True)
    return path


def _write_page(path: Path, document: doc.ViewDocument, texts: Texts, *, is_ours: bool) -> None:
    built = bundle()
    rights = 0o600 if is_ours else 0o666  # a page is as private as its journal
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, rights)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            for part in parts(document, texts, built):
                file.write(part)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error}. Name another file with --html.") from error


def _usual_path(document: doc.ViewDocument, redact: bool) -> Path:
    run_id = document["journals"][0]["runs"][0]["id"]
    folder = Path(platformdirs.user_cache_path("dspy-rlm")) / "pages"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = "".join(char if char.isascii() and char.isalnum() else "_" for char in run_id[:80])
    return folder / f"{name or 'run'}{'-redacted' if redact else ''}.html"


def _serve(source: Journals, options: argparse.Namespace) -> int:
    try:
        server = LiveServer(Following(source), bundle(), options.port)
    except OSError as error:
        raise InputError(
            f"Cannot listen on port {options.port}: {error}. Name another with --port."
        ) from error
    try:
        show_exactly(server.url, sys.stdout)
        show("Ctrl-C ends the page. The run goes on.", sys.stderr)
        _open(server.url, options)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(1)
    finally:
        server.close()
    return COMPLETE


def _open(url: str, options: argparse.Namespace) -> None:
    is_wanted = options.open
    if is_wanted is None:
        is_wanted = options.html is None and sys.stdout.isatty()
    if is_wanted and not webbrowser.open(url):
        show("No browser was found. Open the page yourself.", sys.stderr)
