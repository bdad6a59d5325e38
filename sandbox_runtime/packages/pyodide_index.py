"""Pyodide's own distribution of packages: a further source, checked against the hashes in Pyodide's lock file."""

from __future__ import annotations

import hashlib
import html
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from packaging.utils import canonicalize_name

from sandbox_runtime.engine import assets
from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages.pip_errors import without_secrets
from sandbox_runtime.packages.pip_report import SearchResult

# The environment variable can name another place with the same files, such as a mirror.
DISTRIBUTION = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/"
DISTRIBUTION_VARIABLE = "SANDBOX_PYODIDE_DISTRIBUTION"

# A server that is silent for this long has failed, and so has a download that takes ten times as long.
FETCH_SECONDS = 60
# The largest existing library has some 30 MB.
MAX_LIBRARY_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024

Entry = Mapping[str, Any]
"""The lock file's entry for one package."""


def place_of(url: str | None) -> str:
    """Returns the base URL of the files, with a final slash; None: that of the variable, or the default."""
    place = url or os.environ.get(DISTRIBUTION_VARIABLE) or DISTRIBUTION
    return place if place.endswith("/") else f"{place}/"


def locked_packages() -> Mapping[str, Entry]:
    """Returns the packages of Pyodide's distribution by normalized name. Their hashes came with Pyodide."""
    try:
        text = (assets.find_engine().folder / assets.LOCK_FILE).read_text(encoding="utf-8")
        return dict(json.loads(text)["packages"])
    except (OSError, ValueError, KeyError) as error:
        raise PackageError(f"Pyodide's list of packages cannot be read: {error}") from error


def links_page(locked: Mapping[str, Entry], place: str) -> str:
    """Returns the distribution's wheels as a page of links with hashes, which pip can read."""
    return "\n".join(
        f'<a href="{html.escape(urljoin(place, item["file_name"]))}#sha256={item["sha256"]}">'
        f"{html.escape(item['file_name'])}</a>"
        for item in locked.values()
        if item["file_name"].endswith(".whl")
    )


def fetch_libraries(
    results: Iterable[SearchResult], locked: Mapping[str, Entry], place: str, folder: Path
) -> list[Path]:
    """Fetches the shared libraries that packages of Pyodide's distribution need, which pip does not know."""
    names = [
        name
        for item in results
        if (name := canonicalize_name(item.name)) in locked
        and item.url == urljoin(place, locked[name]["file_name"])
    ]
    return [
        fetch(urljoin(place, item["file_name"]), item["sha256"], folder)
        for item in _dependencies(names, locked)
        if item.get("package_type") == "shared_library"
    ]


def _dependencies(names: Iterable[str], locked: Mapping[str, Entry]) -> Iterator[Entry]:
    seen: set[str] = set()
    pending = list(names)
    while pending:
        name = canonicalize_name(pending.pop())
        if name in locked and name not in seen:
            seen.add(name)
            pending += locked[name]["depends"]
            yield locked[name]


def fetch(url: str, digest: str, folder: Path) -> Path:
    """Downloads a file of the distribution into a folder. Raises `PackageError`, also for a wrong hash."""
    # Importing these takes as long as the rest of this package, and they are rarely needed.
    import http.client
    import urllib.request

    data = bytearray()
    latest = time.monotonic() + 10 * FETCH_SECONDS
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - hashed
            while chunk := answer.read1(_CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_LIBRARY_BYTES or time.monotonic() > latest:
                    raise PackageError(f"{without_secrets(url)} is too long, or comes too slowly.")
            if answer.length:  # promised by the header, but not received
                raise http.client.IncompleteRead(bytes(data), answer.length)
    except (OSError, http.client.HTTPException) as error:
        raise PackageError(f"{without_secrets(url)} cannot be fetched: {error}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise PackageError(
            f"{without_secrets(url)} differs from Pyodide's lock file: another hash."
        )
    path = folder / url.rsplit("/", 1)[-1]
    path.write_bytes(data)
    return path
