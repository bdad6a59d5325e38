"""EPUB: the text of each chapter in reading order. Only the standard library reads the package; `html.py` reads the pages."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from dspy_rlm.inputs.converters.html import markdown
from dspy_rlm.inputs.converters.main import UnreadableError
from dspy_rlm.inputs.converters.zips import checked_zip

_CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html")


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields a part for each chapter, numbered from 1."""
    checked_zip(path, document_types=True)
    with zipfile.ZipFile(path) as archive:
        if "META-INF/encryption.xml" in archive.namelist() and _is_protected(archive):
            raise UnreadableError("its chapters are encrypted (DRM)")
        number = 0
        for place in _reading_order(archive):
            try:
                page = archive.read(place)
            except KeyError:
                yield {"note": f"the chapter {place[:100]} is missing"}
                continue
            if text := markdown(page, headings=False).strip():
                number += 1
                yield {"part": f"chapter {number}", "text": text}


def _is_protected(archive: zipfile.ZipFile) -> bool:
    # Fonts may be encrypted in a free book.
    return b".xhtml" in archive.read("META-INF/encryption.xml")


def _reading_order(archive: zipfile.ZipFile) -> Iterator[str]:
    container = _xml(archive, _CONTAINER)
    root = container.find(".//{*}rootfile")
    package_place = "" if root is None else root.get("full-path") or ""
    package = _xml(archive, package_place)
    folder = posixpath.dirname(package_place)
    places = {
        item.get("id"): item.get("href") or ""
        for item in package.iterfind(".//{*}manifest/{*}item")
        if item.get("media-type") in _PAGES
    }
    for reference in package.iterfind(".//{*}spine/{*}itemref"):
        if href := places.get(reference.get("idref")):
            yield posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))


def _xml(archive: zipfile.ZipFile, place: str) -> Any:
    from lxml import etree

    try:
        data = archive.read(place)
    except KeyError as error:
        raise UnreadableError(
            f"it is not an EPUB: {place[:100] or 'its package'} is missing"
        ) from error
    if re.search(rb"<!\s*ENTITY", data, re.IGNORECASE):
        raise UnreadableError(f"its part {place[:100]} defines entities")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=True
    )
    return etree.fromstring(data, parser)
