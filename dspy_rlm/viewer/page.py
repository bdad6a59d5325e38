"""The page: one HTML file that needs no network, no server, and nothing beside it.

Its policy allows its own script and style sheet by their hashes and nothing else, so no text of a model can load, send or run
anything. All such text is in inert blocks, deflated and in base64, and escaped in the outline.
"""

from __future__ import annotations

import hashlib
import html
from base64 import b64encode
from collections.abc import Iterator

from dspy_rlm.journal.lines import dumped
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.bundle import Bundle
from dspy_rlm.viewer.escaping import escaped
from dspy_rlm.viewer.outline import outline_of, title_of
from dspy_rlm.viewer.texts import Texts, deflated

# The type of blocks that a browser does not run and does not show.
_INERT = "application/octet-stream"


def policy(bundle: Bundle, *, live: bool = False) -> str:
    """Returns the page's Content-Security-Policy. A live page may ask its own server for changes."""
    parts = [
        "default-src 'none'",
        f"script-src '{_hash(bundle.script)}'",
        f"style-src '{_hash(bundle.style)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        *(["connect-src 'self'"] if live else []),
    ]
    return "; ".join(parts)


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def page(document: doc.ViewDocument, texts: Texts, bundle: Bundle) -> str:
    """Returns the page of a document."""
    return "".join(parts(document, texts, bundle))


def parts(document: doc.ViewDocument, texts: Texts, bundle: Bundle) -> Iterator[str]:
    """Yields the page of a document in parts."""
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="'
        f'{html.escape(policy(bundle, live=document["live"]))}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escaped(title_of(document))}</title>\n<style>{bundle.style}</style>\n</head>\n"
        '<body>\n<div id="app" hidden></div>\n'
    )
    yield f'<script type="{_INERT}" id="document">{deflated(dumped(document))}</script>\n'
    for number, block in enumerate(texts.blocks):
        yield f'<script type="{_INERT}" id="chunk-{number}">{block}</script>\n'
    yield f"<script>{bundle.script}</script>\n"
    # Last: the script hides it before it is parsed, so that the browser lays out thousands of steps only if they are read.
    yield from outline_of(document, texts)
    yield "\n</body>\n</html>\n"
